"""The vsock device against a model guest, driven at random by hypothesis."""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulators.vsock_guest import GuestConnection
from simulators.vsock_host import OPEN_PORT, VsockHost

INDEX = st.integers(0, 3)
SIZE = st.sampled_from([1, 130, 1000, 4052, 16000])
TALK = st.lists(
    st.tuples(
        st.sampled_from(["guest sends", "host sends", "guest reads", "host reads", "time passes"]),
        INDEX,
        SIZE,
    ),
    min_size=3,
    max_size=12,
)
PAYLOAD = bytes(range(256)) * 256

T = TypeVar("T")


@dataclass
class Pair:
    """Both ends of one connection as the model knows them."""

    guest: GuestConnection
    host: socket.socket
    host_sent: bytearray = field(default_factory=bytearray)
    host_received: bytearray = field(default_factory=bytearray)
    host_ended: bool = False  # we shut our sending side
    host_closed: bool = False
    guest_reset: bool = False


class VsockMachine(RuleBasedStateMachine):
    """Connections open, talk, end and break in any order; no byte is lost, invented or out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.host = VsockHost()
        self.pairs: list[Pair] = []
        self.run(self.host.__aenter__())
        self.position = 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Let the loop run until something is done."""
        return self.loop.run_until_complete(coroutine)

    def payload(self, size: int) -> bytes:
        """Return bytes that differ from place to place."""
        self.position = (self.position + 7919) % 32768
        return PAYLOAD[self.position : self.position + size]

    def some(self, index: int) -> Pair:
        """Return one of the latest connections."""
        return self.pairs[-1 - index % len(self.pairs)]

    @initialize()
    def begin(self) -> None:
        """Begin with a connection of each kind."""
        self.open_from_guest(8192)
        self.host_connects()

    @rule(buf_alloc=st.sampled_from([500, 1500, 8192, 1 << 18]))
    def guest_connects(self, buf_alloc: int) -> None:
        """Connect from the guest."""
        self.open_from_guest(buf_alloc)

    def open_from_guest(self, buf_alloc: int) -> None:
        """Connect from the guest and see that it succeeds."""
        connection = self.host.guest.connect(OPEN_PORT, buf_alloc=buf_alloc)
        self.run(self.host.settle())
        assert connection.state == "open"
        self.pairs.append(Pair(connection, self.host.dialled[-1]))

    @rule()
    def host_connects(self) -> None:
        """Connect into the guest and read the answer."""
        sock = self.run(self.host.attach(7000))
        self.run(self.host.settle())
        line = sock.recv(64)
        connection = self.host.guest.accepted[-1]
        assert line == b"OK %d\n" % connection.peer_port
        self.pairs.append(Pair(connection, sock))

    @rule(talk=TALK)
    def talk(self, talk: list[tuple[str, int, int]]) -> None:
        """Several words at once, so that rings and sockets fill up."""
        for what, index, size in talk:
            pair = self.some(index)
            match what:
                case "guest sends":
                    self.guest_sends(pair.guest, size)
                case "host sends":
                    self.host_sends(pair, size)
                case "guest reads":
                    self.host.guest.read(pair.guest, size)
                case "host reads":
                    self.host_reads(pair, size)
                case _:
                    self.run(self.host.settle(1))

    def guest_sends(self, connection: GuestConnection, size: int) -> None:
        """Send within the credit."""
        size = min(size, connection.credit)
        if (
            connection.state == "open"
            and size > 0
            and not (connection.shutdown & 2 or connection.peer_shutdown & 1)
        ):
            self.host.guest.send(connection, self.payload(size))

    def host_sends(self, pair: Pair, size: int) -> None:
        """Send what the socket takes."""
        if not (pair.host_ended or pair.host_closed):
            with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                payload = self.payload(size)
                pair.host_sent += payload[: pair.host.send(payload)]

    def host_reads(self, pair: Pair, size: int) -> None:
        """Read what is there."""
        if not pair.host_closed:
            with suppress(BlockingIOError, ConnectionResetError):
                pair.host_received += pair.host.recv(size)

    @rule(index=INDEX, flags=st.sampled_from([1, 2, 3]))
    def guest_shuts_down(self, index: int, flags: int) -> None:
        """End directions from the guest."""
        connection = self.some(index).guest
        if connection.state == "open":
            self.host.guest.shut(connection, flags)

    @rule(index=INDEX)
    def guest_resets(self, index: int) -> None:
        """End abruptly from the guest."""
        pair = self.some(index)
        if pair.guest.state == "open":
            pair.guest_reset = True
            self.host.guest.reset(pair.guest)

    @rule(index=INDEX)
    def host_half_closes(self, index: int) -> None:
        """End our sending side."""
        pair = self.some(index)
        if not pair.host_closed:
            pair.host_ended = True
            with suppress(OSError):
                pair.host.shutdown(socket.SHUT_WR)

    @rule(index=INDEX)
    def host_closes(self, index: int) -> None:
        """Close the host program's end."""
        pair = self.some(index)
        pair.host_closed = True
        pair.host.close()

    @rule()
    def time_passes(self) -> None:
        """Let everything come to rest."""
        self.run(self.host.settle())

    @invariant()
    def device_lives(self) -> None:
        """See that the device has not ended."""
        assert not self.host.task.done(), self.host.task.exception()

    @invariant()
    def streams_are_prefixes(self) -> None:
        """See that what arrived is the beginning of what was sent, in both directions."""
        for pair in self.pairs:
            arrived = pair.guest.received + pair.guest.unread
            assert pair.host_sent.startswith(arrived)
            assert pair.guest.sent.startswith(pair.host_received)

    def teardown(self) -> None:
        """Read to the end: nothing that could arrive is missing."""
        try:
            if not self.host.task.done():
                self.read_to_the_end()
        finally:
            self.run(self.host.__aexit__())
            for pair in self.pairs:
                pair.host.close()
            self.loop.close()

    def read_to_the_end(self) -> None:
        """Read both ends dry and compare."""
        for _ in range(80):
            self.run(self.host.settle(1))
            for pair in self.pairs:
                self.host.guest.read(pair.guest)
                self.host_reads(pair, 1 << 16)
        for pair in self.pairs:
            if not pair.host_closed:
                assert pair.guest.sent == pair.host_received
            if pair.guest.state == "open" and not pair.guest.shutdown & 1 and not pair.host_closed:
                assert pair.host_sent == pair.guest.received


VsockMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
TestVsockMachine = VsockMachine.TestCase
