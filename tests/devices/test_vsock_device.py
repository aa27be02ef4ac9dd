"""The vsock device, one promise at a time, against the model guest."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from cloister.vhost import DeviceError
from simulators.vhost_front_end import EVENT_IDX, INDIRECT_DESC, until
from simulators.vsock_guest import CREDIT_UPDATE, PARENT, RST, RW, GuestConnection
from simulators.vsock_host import OPEN_PORT, VsockHost, receive_all

FEATURES = [pytest.param(0, id="plain"), pytest.param(EVENT_IDX | INDIRECT_DESC, id="event-idx")]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, with a time limit."""
    asyncio.run(asyncio.wait_for(coroutine, 20))


async def connected(host: VsockHost, *, buf_alloc: int = 1 << 18) -> tuple[GuestConnection, socket.socket]:
    """Return both ends of a connection the guest made."""
    connection = host.guest.connect(OPEN_PORT, buf_alloc=buf_alloc)
    await host.settle()
    assert connection.state == "open"
    return connection, host.dialled[-1]


@pytest.mark.parametrize("features", FEATURES)
def test_a_megabyte_goes_both_ways(features: int) -> None:
    """Far more than any window or ring goes through in both directions at once, in order."""

    async def test() -> None:
        async with VsockHost(features=features) as host:
            connection, sock = await connected(host)
            payload = os.urandom(1 << 20)
            to_guest, to_host = memoryview(payload), payload
            received = bytearray()
            while len(received) < len(payload) or len(connection.received) < len(payload):
                with suppress(BlockingIOError):
                    to_guest = to_guest[sock.send(to_guest[:50000]) :] if to_guest else to_guest
                piece = to_host[: max(0, min(connection.credit, 30000))]
                host.guest.send(connection, piece)
                to_host = to_host[len(piece) :]
                await host.settle(1)
                host.guest.read(connection)
                received += receive_all(sock) or b""
            assert payload == received
            assert payload == connection.received

    run(test())


def test_the_ring_running_dry_stops_nobody_for_good() -> None:
    """A stream that found no ring buffer goes on when the guest offers some."""

    async def test() -> None:
        async with VsockHost(buffers=1) as host:
            connection = host.guest.connect(OPEN_PORT)
            await until(lambda: host.dialled)
            host.dialled[0].send(b"x" * 5000)
            await asyncio.sleep(0.02)  # the one buffer carries RESPONSE; the device starves
            for _ in range(4):
                host.guest.poll(offer=1)
                await asyncio.sleep(0.01)
            assert len(connection.unread) == 5000

    run(test())


@pytest.mark.parametrize(
    "destination", [(3, 5001), (16, OPEN_PORT), (17, OPEN_PORT), (2, OPEN_PORT), (0, 10016)]
)
def test_what_cannot_be_dialled_is_reset_at_once(destination: tuple[int, int]) -> None:
    """The guest gets RST for a refused connection without any delay, whoever it asked for."""

    async def test() -> None:
        async with VsockHost() as host:
            cid, port = destination
            host.guest.raw((16, cid, 40000, port, 0, 1, 1, 0, 8192, 0))
            await until(host.guest.poll)
            assert host.guest.resets == 1

    run(test())


def test_the_end_of_the_host_reaches_the_guest() -> None:
    """A host program's half-close arrives as SHUTDOWN(SEND); the guest may still send."""

    async def test() -> None:
        async with VsockHost() as host:
            connection, sock = await connected(host)
            sock.send(b"question")
            sock.shutdown(socket.SHUT_WR)
            await host.settle()
            assert connection.peer_shutdown == 2
            host.guest.send(connection, b"answer")
            host.guest.shut(connection, 2)
            await host.settle()
            assert sock.recv(100) == b"answer"
            assert sock.recv(100) == b""
            assert connection.unread == b"question"
            assert connection.state == "closed"

    run(test())


def test_the_end_of_the_guest_reaches_the_host() -> None:
    """The guest's SHUTDOWN(SEND) is a half-close for the host program, whose answer still arrives."""

    async def test() -> None:
        async with VsockHost() as host:
            connection, sock = await connected(host)
            host.guest.send(connection, b"question")
            host.guest.shut(connection, 2)
            await host.settle()
            assert receive_all(sock) == b"question"
            assert sock.recv(1) == b""
            sock.send(b"answer")
            sock.close()
            await host.settle()
            assert connection.unread == b"answer"

    run(test())


def test_a_closing_guest_loses_nothing() -> None:
    """What the guest sent before it closed arrives, even late and after the guest's reset."""

    async def test() -> None:
        async with VsockHost() as host:
            connection, sock = await connected(host)
            payload = os.urandom(100_000)
            host.guest.send(connection, payload)
            host.guest.shut(connection, 3)
            await host.settle()
            assert connection.state == "open", "RST is the answer once all is handed on"
            host.guest.reset(connection)  # as Linux does after 8 s
            received = b""
            while (piece := receive_all(sock)) is not None:
                received += piece
                await host.settle(1)
            assert payload == received

    run(test())


def test_last_words_arrive() -> None:
    """What the guest put into the ring just before it stopped still reaches the host."""

    async def test() -> None:
        async with VsockHost() as host:
            connection, sock = await connected(host)
            host.guest.send(connection, bytes(60_000))
            host.front.send(11, struct.pack("<II", 0, 0))
            host.front.send(11, struct.pack("<II", 1, 0))
            host.front.socket.close()
            await host.task
            received = b""
            while (piece := receive_all(sock)) is not None:
                received += piece
                await asyncio.sleep(0)
            assert len(received) == 60_000
            assert not host.device.draining

    run(test())


def test_a_waiting_stream_respects_the_guests_end() -> None:
    """A stream that waits for ring buffers sends nothing once the guest receives no more."""

    async def test() -> None:
        async with VsockHost(buffers=1) as host:
            connection = host.guest.connect(OPEN_PORT)
            await until(lambda: host.dialled)
            host.dialled[0].send(b"too late")
            await asyncio.sleep(0.01)
            host.guest.shut(connection, 1)
            await asyncio.sleep(0.01)
            await host.settle()
            assert connection.state == "open"
            assert not connection.unread

    run(test())


def test_a_port_can_be_used_again() -> None:
    """Asking for a connection that exists ends the old one and is refused once; then it works."""

    async def test() -> None:
        async with VsockHost() as host:
            connection, sock = await connected(host)
            del host.guest.connections[connection.port, OPEN_PORT]
            host.guest._next_port = connection.port
            again = host.guest.connect(OPEN_PORT)
            await host.settle()
            assert again.state == "refused"
            assert sock.recv(1) == b""
            host.guest._next_port = connection.port
            again = host.guest.connect(OPEN_PORT)
            await host.settle()
            assert again.state == "open"

    run(test())


def test_a_host_program_that_stops_reading_costs_a_window() -> None:
    """The device holds no more than the credit it gave; a guest that sends beyond is reset."""

    async def test() -> None:
        async with VsockHost() as host:
            connection, _sock = await connected(host)
            for _ in range(200):
                if connection.credit >= 4096:
                    host.guest.send(connection, bytes(4096))
                await host.settle(1)
            assert 0 <= connection.credit < 4096
            cheat = bytes(16384)
            for _ in range(3):
                host.guest.packet(connection, RW, cheat)
            await host.settle()
            assert connection.state == "closed"
            assert not host.task.done()

    run(test())


CHEATS: dict[str, Callable[[GuestConnection], tuple[int, ...]]] = {
    "claims bytes never sent": lambda c: (16, PARENT, c.port, OPEN_PORT, 0, 1, CREDIT_UPDATE, 0, 8192, 5),
    "response to nothing": lambda c: (16, PARENT, c.port, OPEN_PORT, 0, 1, 2, 0, 8192, 0),
    "unknown op": lambda c: (16, PARENT, c.port, OPEN_PORT, 0, 1, 99, 0, 8192, 0),
    "payload longer than the packet": lambda c: (16, PARENT, c.port, OPEN_PORT, 60000, 1, RW, 0, 8192, 0),
    "credit update with payload": lambda c: (16, PARENT, c.port, OPEN_PORT, 7, 1, CREDIT_UPDATE, 0, 8192, 0),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_resets_its_connection_alone(cheat: str) -> None:
    """A packet against the rules costs its sender that connection; others and the device go on."""

    async def test() -> None:
        async with VsockHost() as host:
            victim, sock = await connected(host)
            other, other_sock = await connected(host)
            host.guest.raw(CHEATS[cheat](victim))
            await host.settle()
            assert victim.state == "closed"
            assert receive_all(sock) is None
            other_sock.send(b"still here")
            await host.settle()
            assert other.unread == b"still here"

    run(test())


STRAY = {
    "another source": ((99, PARENT, 1, OPEN_PORT, 0, 1, 1, 0, 8192, 0), 0),
    "seqpacket": ((16, PARENT, 1, OPEN_PORT, 0, 2, 1, 0, 8192, 0), 1),
    "payload for nobody": ((16, PARENT, 1, OPEN_PORT, 0, 1, RW, 0, 8192, 0), 1),
    "reset of nothing": ((16, PARENT, 1, OPEN_PORT, 0, 1, RST, 0, 8192, 0), 0),
}


@pytest.mark.parametrize("name", STRAY)
def test_stray_packets(name: str) -> None:
    """A packet of no connection is answered by RST, unless it is one, or its source is forged."""

    async def test() -> None:
        async with VsockHost() as host:
            header, resets = STRAY[name]
            host.guest.raw(header)
            await host.settle(10)
            assert host.guest.resets == resets
            assert not host.dialled

    run(test())


def test_a_flood_of_requests_is_bounded() -> None:
    """A guest that asks for ever and takes no answers is not listened to until it does."""

    async def test() -> None:
        async with VsockHost(buffers=0) as host:
            for port in range(2000):
                host.guest._to_send.append(_request(port))
            for _ in range(300):
                host.guest.flush()
                await asyncio.sleep(0)
            assert len(host.device._replies) <= 256
            assert host.guest._to_send, "the device stopped taking packets"
            while host.guest._to_send or host.guest.resets < 2000:
                await host.settle(1)
            assert host.guest.resets == 2000

    run(test())


def _request(port: int) -> bytes:
    from simulators.vsock_guest import HEADER

    return HEADER.pack(16, PARENT, port, 1, 0, 1, 1, 0, 8192, 0)


def test_too_many_connections_are_refused() -> None:
    """Beyond its limit the device refuses, in both directions; an ended one makes room."""

    async def test() -> None:
        async with VsockHost(max_connections=2) as host:
            first, _ = await connected(host)
            await connected(host)
            third = host.guest.connect(OPEN_PORT)
            await host.settle()
            assert third.state == "refused"
            sock = await host.attach(7000)
            assert sock.recv(10) == b""
            sock.close()
            host.guest.reset(first)
            await host.settle()
            await connected(host)

    run(test())


def test_small_packets_are_coalesced() -> None:
    """A guest that does not read gets few packets, for Linux >= 6.12.92 counts their overhead."""

    async def test() -> None:
        async with VsockHost() as host:
            connection, sock = await connected(host, buf_alloc=8192)
            for _ in range(16):
                sock.send(b"0123456789")
                await host.settle(1)
            packets = len(connection.unread) // 10
            assert packets <= 8
            for _ in range(5):
                host.guest.read(connection)
                await host.settle()
            assert connection.received + connection.unread == b"0123456789" * 16

    run(test())


def test_host_connections_are_announced_and_refused() -> None:
    """``attach`` writes the answer line when the guest accepts and closes the socket when it does not."""

    async def test() -> None:
        async with VsockHost() as host:
            sock = await host.attach(7000)
            await host.settle()
            assert sock.recv(64) == b"OK %d\n" % host.guest.accepted[0].peer_port
            refused = await host.attach(7001)
            await host.settle()
            assert refused.recv(64) == b""
            refused.close()
            sock.close()

    run(test())


def test_a_receive_buffer_too_small_ends_the_device() -> None:
    """A ring that no correct driver makes ends the device with DeviceError, not the process."""

    async def test() -> None:
        async with VsockHost(buffers=0) as host:
            host.guest.receive.add(writable=[20])
            host.guest.connect(OPEN_PORT)
            with pytest.raises(DeviceError, match="receive buffer"):
                await asyncio.wait_for(asyncio.shield(host.task), 2)

    run(test())
