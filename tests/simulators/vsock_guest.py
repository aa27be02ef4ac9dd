"""A model guest: the driver's side of virtio-vsock (virtio 1.2 section 5.10.6), checking the device.

Every packet from the device is held against the rules: credit, order, states, addresses. A broken rule is an
AssertionError in the test.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from simulators.vhost_front_end import DriverQueue, FrontEnd

HEADER = struct.Struct("<QQIIIHHIII")
REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
MAX_PACKET = 16384  # what one buffer of the transmit ring holds; Linux sends up to 64 KiB
PARENT = 3


@dataclass
class GuestConnection:
    """The guest's half of a connection."""

    port: int
    peer_port: int
    state: str = "requested"
    buf_alloc: int = 8192
    unread: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)  # all that was ever read
    sent: bytearray = field(default_factory=bytearray)
    fwd_cnt: int = 0
    rx_cnt: int = 0
    peer_buf_alloc: int = 0
    peer_fwd_cnt: int = 0
    peer_shutdown: int = 0
    shutdown: int = 0

    @property
    def credit(self) -> int:
        """Bytes that may still be sent."""
        return self.peer_buf_alloc - (len(self.sent) - self.peer_fwd_cnt)


class VsockGuest:
    """Drives rings 0 (receive) and 1 (transmit) of a front end."""

    def __init__(self, front: FrontEnd, *, cid: int = 16, listening: Sequence[int] = ()) -> None:
        self.front = front
        self.cid = cid
        self.listening = set(listening)
        self.connections: dict[tuple[int, int], GuestConnection] = {}
        self.accepted: list[GuestConnection] = []
        self.resets = 0
        self._to_send: list[bytes] = []
        self._next_port = 40000

    @property
    def receive(self) -> DriverQueue:
        """The receive ring."""
        return self.front.queues[0]

    def offer_buffers(self, count: int = 64) -> None:
        """Give the device buffers, as many as fit."""
        while count and self.receive.add(writable=[4096]):
            count -= 1
        self.receive.notify()

    def raw(self, header: Sequence[int], payload: bytes = b"") -> None:
        """Queue a packet as it is."""
        self._to_send.append(HEADER.pack(*header) + payload)
        self.flush()

    def packet(self, c: GuestConnection, op: int, payload: bytes = b"", *, flags: int = 0) -> None:
        """Queue a packet of a connection."""
        self.raw(
            (self.cid, PARENT, c.port, c.peer_port, len(payload), 1, op, flags, c.buf_alloc, c.fwd_cnt),
            payload,
        )

    def flush(self) -> None:
        """Move queued packets into the transmit ring."""
        ring = self.front.queues[1]
        ring.take_used()
        while self._to_send and ring.add(*filter(None, (self._to_send[0][:44], self._to_send[0][44:]))):
            self._to_send.pop(0)
        ring.notify()

    def connect(self, port: int, *, buf_alloc: int = 8192) -> GuestConnection:
        """Ask for a connection to the parent."""
        connection = GuestConnection(self._next_port, port, buf_alloc=buf_alloc)
        self._next_port += 1
        self.connections[connection.port, port] = connection
        self.packet(connection, REQUEST)
        return connection

    def send(self, connection: GuestConnection, payload: bytes) -> None:
        """Send payload within credit."""
        assert len(payload) <= connection.credit
        for start in range(0, len(payload), MAX_PACKET):
            piece = payload[start : start + MAX_PACKET]
            connection.sent += piece
            self.packet(connection, RW, piece)

    def read(self, connection: GuestConnection, count: int = 1 << 30) -> None:
        """Take bytes out of the receive buffer and give credit."""
        piece = connection.unread[:count]
        del connection.unread[:count]
        connection.received += piece
        connection.fwd_cnt = (connection.fwd_cnt + len(piece)) & 0xFFFFFFFF
        if piece and connection.state == "open":
            self.packet(connection, CREDIT_UPDATE)

    def shut(self, connection: GuestConnection, flags: int) -> None:
        """Say what will not be done any more."""
        connection.shutdown |= flags
        self.packet(connection, SHUTDOWN, flags=connection.shutdown)

    def reset(self, connection: GuestConnection) -> None:
        """End abruptly."""
        connection.state = "closed"
        self.packet(connection, RST)
        self.connections.pop((connection.port, connection.peer_port), None)

    def poll(self, *, offer: int = 64) -> int:
        """Take what the device sent, check it, offer the buffers again; return how many packets came."""
        packets = self.receive.take_used()
        for _, length, content in packets:
            assert length >= 44
            header = HEADER.unpack_from(content)
            assert length == 44 + header[4]
            self._take(header, content[44:length])
        self.flush()
        if offer:
            self.offer_buffers(offer)
        return len(packets)

    def _take(self, header: Sequence[int], payload: bytes) -> None:
        src_cid, dst_cid, src_port, dst_port, _, kind, op, flags, buf_alloc, fwd_cnt = header
        assert dst_cid == self.cid
        assert kind == 1 or op == RST
        connection = self.connections.get((dst_port, src_port))
        if op == REQUEST:
            assert connection is None
            assert src_cid == PARENT
            self._accept(dst_port, src_port, header)
            return
        if connection is None:
            if op == RST:
                self.resets += 1
            else:  # what was on its way when we reset; Linux answers so too
                self.raw((dst_cid, src_cid, dst_port, src_port, 0, 1, RST, 0, 0, 0))
            return
        connection.peer_buf_alloc, connection.peer_fwd_cnt = buf_alloc, fwd_cnt
        if op == RST:
            connection.state = "refused" if connection.state == "requested" else "closed"
            del self.connections[dst_port, src_port]
            return
        assert fwd_cnt <= len(connection.sent), "the device took bytes that were never sent"
        self._step(connection, op, flags, payload)

    def _step(self, connection: GuestConnection, op: int, flags: int, payload: bytes) -> None:
        if connection.state == "requested":
            assert op == RESPONSE
            connection.state = "open"
        elif op == RW:
            assert not connection.peer_shutdown & 2, "payload after the end of payload"
            assert len(connection.unread) + len(payload) <= connection.buf_alloc, "more than our credit"
            connection.unread += payload
            connection.rx_cnt += len(payload)
        elif op == CREDIT_REQUEST:
            self.packet(connection, CREDIT_UPDATE)
        elif op == SHUTDOWN:
            assert flags
            assert flags & connection.peer_shutdown == connection.peer_shutdown
            connection.peer_shutdown |= flags
            if connection.peer_shutdown == 3:
                self.reset(connection)
        else:
            assert op == CREDIT_UPDATE, f"op {op} in state {connection.state}"

    def _accept(self, port: int, peer_port: int, header: Sequence[int]) -> None:
        connection = GuestConnection(port, peer_port)
        connection.peer_buf_alloc, connection.peer_fwd_cnt = header[8], header[9]
        if port not in self.listening:
            self.packet(connection, RST)
            return
        connection.state = "open"
        self.connections[port, peer_port] = connection
        self.accepted.append(connection)
        self.packet(connection, RESPONSE)
