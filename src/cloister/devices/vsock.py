"""The vsock device: the pure connections of ``cloister.vsock`` between virtqueues and host sockets.

Follows virtio 1.2 section 5.10; the guest's CID is its configuration space. Queue 0 carries packets to the
guest, queue 1 from it; the event queue stays with QEMU.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from cloister.devices.stream import Stream
from cloister.vhost import Chain, DeviceError, Feature, Virtqueue
from cloister.vsock import (
    CID_PARENT,
    HEADER_SIZE,
    MAX_PAYLOAD,
    Connection,
    Effect,
    Header,
    Muxer,
    Op,
    Route,
    State,
)

WINDOW = 256 << 10  # bytes of credit for the guest's side of a connection, Linux's own default
SMALL_WINDOW = 64 << 10
ALL_WINDOWS = 64 << 20  # when this much credit is given, new connections get the small window
MAX_CONNECTIONS = 1280
MAX_REPLIES = (
    256  # unsent answers at which we stop taking packets (virtio 1.2 section 5.10.6.2 asks for a bound)
)
BATCH = 64  # packets taken before others have their turn

_RX, _TX = 0, 1


class VsockDevice:
    """One guest's vsock.

    ``dial(cid, port)`` returns a connected stream socket or raises ConnectionRefusedError; it must not block.
    """

    features = int(Feature.INDIRECT_DESC | Feature.EVENT_IDX)
    queue_count = 2

    def __init__(
        self,
        *,
        guest_cid: int,
        dial: Callable[[int, int], socket.socket],
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.config = guest_cid.to_bytes(8, "little")
        self._dial = dial
        self._max_connections = max_connections
        self._muxer = Muxer(guest_cid, limit=max_connections)
        self._streams: dict[Connection, Stream] = {}  # the guest's side is alive
        self._orphans: set[Stream] = set()  # the guest is gone, the host still reads
        self._starved: dict[Stream, None] = {}  # in order
        self._replies: deque[bytes] = deque()
        self._windows = 0
        self._stalled = False
        self._rx: Virtqueue | None = None
        self._tx: Virtqueue | None = None
        self._fail: Callable[[DeviceError], None] = _nobody

    # What the supervisor uses

    @property
    def guest_cid(self) -> int:
        """The guest's own CID."""
        return self._muxer.guest_cid

    def attach(self, sock: socket.socket, guest_port: int, *, peer_cid: int = CID_PARENT) -> None:
        """Connect a host socket to a port of the guest; takes the socket over.

        When the guest accepts, ``OK <port>`` and a newline are written to it; when it refuses, it is closed.
        """
        window = self._window()
        connection = None
        if self._rx is not None and not self._full:
            connection = self._muxer.connect(peer_cid, guest_port, buf_alloc=window)
        if connection is None:
            sock.close()
            return
        stream = self._add(connection, sock)
        stream.await_answer()
        self.say(connection, Op.REQUEST)
        self._settle_or_fail()

    @property
    def draining(self) -> bool:
        """Whether host programs have still to read what an ended connection brought them."""
        return bool(self._orphans)

    def close(self) -> None:
        """Let go of what nobody has read."""
        for stream in list(self._orphans):
            stream.close()

    # What the vhost-user back end uses

    def begin(self, fail: Callable[[DeviceError], None]) -> None:
        """Note how to end the device: a guest is coming."""
        self._fail = fail

    def queue_started(self, index: int, queue: Virtqueue) -> None:
        """Take a ring into use."""
        if index == _RX:
            self._rx = queue
            queue.disarm()
        else:
            self._tx = queue

    def queue_stopped(self, index: int) -> None:
        """Take what was sent, then drop every connection: the guest resets the device or is gone."""
        self._take_last_packets()
        if index == _RX:
            self._rx = None
        else:
            self._tx = None
        self._drop_all()

    def kicked(self, index: int) -> None:
        """Serve a ring."""
        if index == _TX:
            self._take_packets()
        else:
            self._wake()
        self.settle()

    def end(self) -> None:
        """Drop every connection: the virtual machine is gone.

        What host programs have not read yet still goes to them, see ``draining``.
        """
        self._drop_all()
        self._fail = _nobody

    # What streams use

    @property
    def receive_queue(self) -> Virtqueue | None:
        """The ring for the guest, unless answers that come first still wait for room in it."""
        return None if self._replies and not self._flush_replies() else self._rx

    def say(self, connection: Connection, op: Op, flags: int = 0) -> None:
        """Queue a packet without payload."""
        self._replies.append(connection.header(op, flags=flags).to_bytes())

    def starve(self, stream: Stream) -> None:
        """Remember who waits for ring buffers."""
        self._starved[stream] = None

    def forget(self, stream: Stream) -> None:
        """Free the ports: the guest's end is over."""
        if self._streams.pop(stream.connection, None) is not None:
            self._muxer.forget(stream.connection)
            self._starved.pop(stream, None)
            if stream.open:  # what it sent may still wait here, and counts until it does not
                self._orphans.add(stream)
            else:
                self._windows -= stream.connection.buf_alloc

    def buried(self, stream: Stream) -> None:
        """Free the place: the host's end is over."""
        if stream in self._orphans:
            self._orphans.discard(stream)
            self._windows -= stream.connection.buf_alloc

    def settle(self) -> None:
        """Send the answers that wait, then show the guest everything done since the last time."""
        while True:
            if self._replies:
                self._flush_replies()
            if self._stalled and len(self._replies) < MAX_REPLIES:
                self._stalled = False
                asyncio.get_running_loop().call_soon(self._take_more)
            hungry = bool(self._replies or self._starved)
            if not hungry or self._rx is None or not self._rx.arm():
                break
            self._rx.disarm()
            self._wake()
        if self._tx is not None:
            self._tx.publish()
        if self._rx is not None:
            self._rx.publish()

    def fail(self, error: DeviceError) -> None:
        """End the device."""
        self._fail(error)

    # From the guest

    def _take_packets(self) -> None:
        queue = self._tx
        if queue is None or self._stalled:
            return
        queue.disarm()
        for _ in range(BATCH):
            if len(self._replies) >= MAX_REPLIES and not self._flush_replies():
                self._stalled = True
                return
            chain = queue.pop()
            if chain is None:
                if not queue.arm():
                    return
                queue.disarm()
                continue
            self._packet(chain)
            queue.push(chain.head, 0)
        asyncio.get_running_loop().call_soon(self._take_more)

    def _take_more(self) -> None:
        try:
            self._take_packets()
            self.settle()
        except DeviceError as error:
            self._fail(error)

    def _take_last_packets(self) -> None:
        """Take what is left in the ring when it stops; nobody is there for answers."""
        rx, self._rx = self._rx, None
        with suppress(DeviceError):
            for _ in range((self._tx.size if self._tx else 0) // BATCH + 1):
                self._replies.clear()
                self._stalled = False
                self._take_packets()
        self._rx = rx

    def _packet(self, chain: Chain) -> None:
        """Act on one packet; malformed ones are dropped, those of nobody are answered with RST."""
        views = chain.readable
        if not views:
            return
        if len(views[0]) < HEADER_SIZE:  # any framing is legal (virtio 1.2 section 2.7.4.1), if unusual
            views = [memoryview(b"".join(views)[: HEADER_SIZE + MAX_PAYLOAD])]
            if len(views[0]) < HEADER_SIZE:
                return
        header = Header.from_bytes(views[0])
        payload = views[1:]
        if len(views[0]) > HEADER_SIZE:
            payload = [views[0][HEADER_SIZE:], *payload]
        route, connection = self._muxer.route(header)
        if route is Route.KNOWN:
            assert connection is not None
            self._on_connection(self._streams[connection], header, payload)
        elif route is Route.CONNECT:
            self._connect(header)
        elif route is not Route.DROP:
            if connection is not None:
                self._streams[connection].guest_gone()
            self._replies.append(header.reset.to_bytes())

    def _on_connection(self, stream: Stream, header: Header, payload: list[memoryview]) -> None:
        effect = stream.connection.receive(header)
        if effect is Effect.DELIVER:
            length = header.length
            size = sum(map(len, payload))
            if length > size or length > MAX_PAYLOAD:
                effect = Effect.VIOLATION
            else:
                if length:
                    stream.deliver(payload if size == length else _cut(payload, length), length)
                stream.resume()  # every header brings credit
                return
        match effect:
            case Effect.CREDIT:
                stream.resume()
            case Effect.SEND_CREDIT:
                self.say(stream.connection, Op.CREDIT_UPDATE)
                stream.resume()
            case Effect.SHUTDOWN:
                stream.guest_shutdown()
            case Effect.ACCEPTED:
                stream.accepted()
            case Effect.RESET:
                stream.guest_gone()
            case Effect.VIOLATION:
                self._replies.append(header.reset.to_bytes())
                stream.guest_gone()

    def _connect(self, header: Header) -> None:
        """Dial what the guest asks for; refused is answered at once."""
        try:
            if self._full:
                raise ConnectionRefusedError
            sock = self._dial(header.dst_cid, header.dst_port)
        except OSError:
            self._replies.append(header.reset.to_bytes())
            return
        connection = self._muxer.accept(header, buf_alloc=self._window())
        stream = self._add(connection, sock)
        self.say(connection, Op.RESPONSE)
        stream.start()

    # Bookkeeping

    @property
    def _full(self) -> bool:
        return len(self._streams) + len(self._orphans) >= self._max_connections

    def _window(self) -> int:
        return WINDOW if self._windows < ALL_WINDOWS else SMALL_WINDOW

    def _add(self, connection: Connection, sock: socket.socket) -> Stream:
        stream = Stream(self, connection, sock)
        self._streams[connection] = stream
        self._windows += connection.buf_alloc
        return stream

    def _flush_replies(self) -> bool:
        """Write waiting answers into the guest's ring; True when none is left."""
        queue = self._rx
        while self._replies and queue is not None:
            chain = queue.pop()
            if chain is None:
                return False
            if not chain.writable or len(chain.writable[0]) < HEADER_SIZE:
                raise DeviceError("the guest offers a receive buffer without room for a header")
            chain.writable[0][:HEADER_SIZE] = self._replies.popleft()
            queue.push(chain.head, HEADER_SIZE)
        return not self._replies

    def _wake(self) -> None:
        """There are ring buffers again: those who waited go first, in order."""
        hungry, self._starved = list(self._starved), {}
        for stream in hungry:
            stream.resume()
            stream.pump()

    def _drop_all(self) -> None:
        self._replies.clear()
        self._starved.clear()
        self._stalled = False
        for stream in list(self._streams.values()):
            stream.connection.state = State.CLOSED
            stream.guest_gone()

    def _settle_or_fail(self) -> None:
        try:
            self.settle()
        except DeviceError as error:
            self._fail(error)


def _cut(views: list[memoryview], length: int) -> list[memoryview]:
    """Return the first ``length`` bytes of a list of views."""
    cut: list[memoryview] = []
    for view in views:
        if length <= 0:
            break
        cut.append(view[:length])
        length -= len(view)
    return cut


def _nobody(_error: DeviceError) -> None:
    """Stand in for the back end while there is none."""
