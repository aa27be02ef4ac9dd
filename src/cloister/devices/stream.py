"""One spliced connection: the guest's end in the rings, the host's end a non-blocking socket.

Backpressure both ways: bytes for the guest stay in the host's socket until there is credit and a ring buffer;
bytes from the guest wait here, never more than the credit we gave (virtio 1.2 section 5.10.6.3).
"""

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from cloister.vhost import Chain, DeviceError, Virtqueue
from cloister.vsock import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    Connection,
    Op,
    Shutdown,
    State,
    ok_line,
    pack_header_into,
)

PUMP_BUDGET = 256 << 10  # bytes for the guest from one connection before the others have their turn
BURST = 16  # ring buffers filled by one receive; Linux offers 4 KiB each
PIECE = 64 << 10  # bytes that wait together for the host's program
DRAIN_SECONDS = 30.0  # how long a host program has to take what a guest sent before it closed
ANSWER_SECONDS = 5.0  # how long a guest has to answer a connection from the host


class GuestSide(Protocol):
    """What a stream asks of the device."""

    @property
    def receive_queue(self) -> Virtqueue | None:
        """The ring of buffers the guest offers for our packets."""

    def say(self, connection: Connection, op: Op, flags: int = 0) -> None:
        """Send a packet without payload, in order with the payload sent before."""

    def starve(self, stream: "Stream") -> None:
        """Wake this stream when the guest offers buffers again."""

    def forget(self, stream: "Stream") -> None:
        """Free the ports: the guest's end is over."""

    def buried(self, stream: "Stream") -> None:
        """Free the place: the host's end is over too."""

    def settle(self) -> None:
        """Show the guest what has been done."""

    def fail(self, error: DeviceError) -> None:
        """End the device."""


class Stream:
    """Splices one connection."""

    __slots__ = (
        "_asked",
        "_burst",
        "_deadline",
        "_host_ended",
        "_loop",
        "_reading",
        "_taken",
        "_waiting",
        "_waiting_size",
        "_write_shut",
        "_writing",
        "connection",
        "guest",
        "open",
        "sock",
    )

    def __init__(self, guest: GuestSide, connection: Connection, sock: socket.socket) -> None:
        self.guest = guest
        self.connection = connection
        self.sock = sock
        self.open = True
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytearray] = deque()  # from the guest, for the host
        self._waiting_size = 0
        self._taken = 0  # bytes of the first piece that the host has taken
        self._reading = self._writing = False
        self._host_ended = self._write_shut = self._asked = False
        self._burst = 1
        self._deadline: asyncio.TimerHandle | None = None
        sock.setblocking(False)

    def start(self) -> None:
        """Begin to splice: the guest's side is established."""
        self._cancel_deadline()
        self.resume()

    def await_answer(self) -> None:
        """Give the guest a limited time to answer our REQUEST."""
        self._deadline = self._loop.call_later(ANSWER_SECONDS, self._unanswered)

    def accepted(self) -> None:
        """Tell the host that the guest took its connection, and begin."""
        try:
            self.sock.send(ok_line(self.connection.local_port))
        except OSError:
            self.abort()
            return
        self.start()

    def resume(self) -> None:
        """Read from the host again: there is credit, or a ring buffer."""
        if self.connection.credit == 0:
            return  # and do not ask again: that would be a game of ping-pong with the guest
        self._asked = False
        if self._may_read() and not self._reading:
            self._reading = True
            self._loop.add_reader(self.sock, self._readable)

    def deliver(self, views: Sequence[memoryview], length: int) -> None:
        """Hand payload from the guest to the host, at once as far as its socket takes it."""
        if self._write_shut:
            self._consumed(length)
            return
        sent = 0
        if not self._waiting:
            try:
                sent = self.sock.send(views[0]) if len(views) == 1 else self.sock.sendmsg(views)
            except BlockingIOError:
                pass
            except OSError:
                self._host_closed()
                self._consumed(length)
                return
            if sent:
                self._consumed(sent)
            if sent == length:
                return
        self._keep(views, sent)

    def guest_shutdown(self) -> None:
        """Pass on that the guest will not send, or not receive, any more."""
        if self.connection.peer_shutdown & Shutdown.RECEIVE:
            self._stop_reading()
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RD)
        self._check_end()

    def guest_gone(self) -> None:
        """Hand on what the guest sent before it ended the connection, within a time limit."""
        self.guest.forget(self)
        self._stop_reading()
        if self._waiting and self.open:
            self._deadline = self._loop.call_later(DRAIN_SECONDS, self.close)
        else:
            self.close()

    def abort(self) -> None:
        """End both sides now; the guest sees RST."""
        if self.connection.state is not State.CLOSED:
            self.guest.say(self.connection, Op.RST)
        self.guest.forget(self)
        self.close()

    def close(self) -> None:
        """Let go of the host's socket."""
        if not self.open:
            return
        self.open = False
        self._cancel_deadline()
        self._stop_reading()
        self._stop_writing()
        self._waiting.clear()
        self.sock.close()
        self.guest.buried(self)

    # From the host to the guest

    def _may_read(self) -> bool:
        connection = self.connection
        return (
            self.open
            and not self._host_ended
            and connection.state is State.ESTABLISHED
            and not connection.peer_shutdown & Shutdown.RECEIVE
        )

    def _readable(self) -> None:
        try:
            self.pump()
            self.guest.settle()
        except DeviceError as error:
            self.guest.fail(error)

    def pump(self) -> None:
        """Move bytes from the host's socket straight into the guest's buffers."""
        left = PUMP_BUDGET if self._may_read() else 0
        while left > 0:
            room = min(self.connection.credit, MAX_PAYLOAD, left)
            queue = self.guest.receive_queue
            if room == 0:
                self._stop_reading()
                if not self._asked:
                    self._asked = True
                    self.guest.say(self.connection, Op.CREDIT_REQUEST)
                return
            chains = _take(queue, self._burst, room) if queue else []
            if queue is None or not chains:
                self._stop_reading()
                self.guest.starve(self)
                return
            got, room = self._fill(queue, chains, room)
            if got < room:
                self._burst = 1 if got <= MAX_PAYLOAD // BURST else BURST
                return
            self._burst = BURST
            left -= got

    def _fill(self, queue: Virtqueue, chains: list[Chain], room: int) -> tuple[int, int]:
        """Receive into ring buffers; return the bytes received and the room there was."""
        buffers, room = _payload_room(chains, room)
        try:
            got = self.sock.recv_into(buffers[0]) if len(buffers) == 1 else self.sock.recvmsg_into(buffers)[0]
        except BlockingIOError:
            queue.unpop(len(chains))
            return 0, room
        except OSError:
            queue.unpop(len(chains))
            self.abort()
            return 0, room
        if got == 0:
            queue.unpop(len(chains))
            self._host_eof()
            return 0, room
        left, connection = got, self.connection
        for used, chain in enumerate(chains):
            if left == 0:
                queue.unpop(len(chains) - used)
                break
            size = min(left, sum(map(len, chain.writable)) - HEADER_SIZE)
            pack_header_into(chain.writable[0], 0, *connection.header(Op.RW, length=size))
            queue.push(chain.head, HEADER_SIZE + size)
            connection.sent(size)
            left -= size
        return got, room

    def _host_eof(self) -> None:
        self._host_ended = True
        self._stop_reading()
        self._tell_shutdown(Shutdown.SEND)
        self._check_end()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.sock)

    # From the guest to the host

    def _keep(self, views: Sequence[memoryview], skip: int) -> None:
        """Copy what the host's socket did not take; the ring buffer goes back to the guest.

        Small packets share a piece: an object for each would cost hundreds of times its payload.
        """
        for view in views:
            if skip >= len(view):
                skip -= len(view)
                continue
            if not self._waiting or len(self._waiting[-1]) >= PIECE:
                self._waiting.append(bytearray())
            self._waiting[-1] += view[skip:]
            self._waiting_size += len(view) - skip
            skip = 0
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self.sock, self._writable)

    def _writable(self) -> None:
        try:
            self._flush()
            self.guest.settle()
        except DeviceError as error:
            self.guest.fail(error)

    def _flush(self) -> None:
        waiting = self._waiting
        while waiting:
            try:
                sent = self.sock.send(memoryview(waiting[0])[self._taken :])
            except BlockingIOError:
                return
            except OSError:
                self._host_closed()
                return
            self._taken += sent
            if self._taken == len(waiting[0]):
                waiting.popleft()
                self._taken = 0
            self._waiting_size -= sent
            self._consumed(sent)
        self._stop_writing()
        if self.connection.state is State.CLOSED:
            self.close()
        else:
            self._check_end()

    def _host_closed(self) -> None:
        """Discard what the host's program takes no more, and tell the guest that we do not receive."""
        self._write_shut = True
        self._stop_writing()
        self._waiting.clear()
        self._taken = 0
        dropped, self._waiting_size = self._waiting_size, 0
        if self.connection.state is State.CLOSED:
            self.close()
            return
        self._consumed(dropped)
        self._tell_shutdown(Shutdown.RECEIVE)
        self._check_end()

    def _consumed(self, length: int) -> None:
        if self.connection.consumed(length) and self.connection.state is State.ESTABLISHED:
            self.guest.say(self.connection, Op.CREDIT_UPDATE)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self.sock)

    # Ends

    def _check_end(self) -> None:
        """See whether a direction, or the whole connection, is over."""
        connection = self.connection
        if not connection.peer_shutdown & Shutdown.SEND or self._waiting or not self.open:
            return
        if connection.peer_shutdown & Shutdown.RECEIVE:
            self.guest.say(connection, Op.RST)  # the clean end, section 5.10.6.6.1
            self.guest.forget(self)
            self.close()
            return
        if not self._write_shut:
            self._write_shut = True
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
        if self._host_ended:
            self._tell_shutdown(Shutdown.BOTH)

    def _tell_shutdown(self, flags: Shutdown) -> None:
        if self.connection.shut(flags):
            self.guest.say(self.connection, Op.SHUTDOWN, self.connection.local_shutdown)

    def _unanswered(self) -> None:
        self._deadline = None
        self.abort()
        try:
            self.guest.settle()
        except DeviceError as error:
            self.guest.fail(error)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _take(queue: Virtqueue, count: int, room: int) -> list[Chain]:
    """Take up to ``count`` buffers, no more than ``room`` bytes of payload need."""
    chains: list[Chain] = []
    while len(chains) < count and room > 0:
        chain = queue.pop()
        if chain is None:
            break
        size = sum(map(len, chain.writable)) - HEADER_SIZE
        if size <= 0 or len(chain.writable[0]) < HEADER_SIZE:
            raise DeviceError(
                "the guest offers a receive buffer without room for a header and a byte of payload"
            )
        chains.append(chain)
        room -= size
    return chains


def _payload_room(chains: list[Chain], room: int) -> tuple[list[memoryview], int]:
    """Return where payload may be put, cut to ``room`` bytes, and how many bytes that is."""
    buffers: list[memoryview] = []
    total = 0
    for chain in chains:
        first = True
        for view in chain.writable:
            piece = view[HEADER_SIZE:] if first else view
            first = False
            piece = piece[: room - total]
            if piece:
                buffers.append(piece)
                total += len(piece)
    return buffers, total
