"""A guest that lies and floods in its rings: what it makes the supervisor keep is bounded."""

import asyncio
import random
import tracemalloc
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

import pytest

from cloister.devices import NsmDevice
from cloister.vhost import DeviceError, serve_device
from simulators.vhost_front_end import FrontEnd, until
from simulators.vsock_guest import CREDIT_REQUEST, CREDIT_UPDATE, PARENT, REQUEST, RST, RW, SHUTDOWN
from simulators.vsock_host import OPEN_PORT, VsockHost

KIB = 1 << 10


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, with a time limit."""
    asyncio.run(asyncio.wait_for(coroutine, 60))


class Grown:
    """How many bytes Python allocates within the block and keeps, the model guest's own included."""

    size = 0

    def __enter__(self) -> Self:
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(self, *_: object) -> None:
        now = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        self.size = now - self._before


async def send_raw(host: VsockHost, op: int, port: int, *, payload: bytes = b"", fwd_cnt: int = 0) -> None:
    """Send one packet, whatever the rules say, and let the device take it."""
    ring = host.guest.front.queues[1]
    header = (16, PARENT, port, OPEN_PORT, len(payload), 1, op, 0, 1 << 18, fwd_cnt)
    host.guest.raw(header, payload)
    while len(ring.free) < ring.size // 2:
        await asyncio.sleep(0)
        ring.take_used()


def test_tiny_packets_cost_what_they_carry() -> None:
    """Thousands of one-byte packets for a program that does not read cost a few bytes each."""

    async def test() -> None:
        async with VsockHost() as host:
            connection = host.guest.connect(OPEN_PORT)
            await host.settle()
            with Grown() as grown:
                for _ in range(1500):
                    await send_raw(host, RW, connection.port, payload=b"x")
            assert grown.size < 120 * KIB

    run(test())


def test_what_waits_after_the_guest_closed_still_counts() -> None:
    """Windows of connections that were closed over unread payload are not given out a second time."""

    async def test() -> None:
        async with VsockHost() as host:
            before = host.device._windows
            for _ in range(3):
                connection = host.guest.connect(OPEN_PORT)
                await host.settle()
                for _ in range(4):
                    await send_raw(host, RW, connection.port, payload=bytes(16000))
                host.guest.reset(connection)
                await host.settle()
            assert host.device.draining
            assert host.device._windows - before == 3 * (256 << 10)
            for sock in host.dialled:
                sock.close()
            await until(lambda: not host.device.draining)
            assert host.device._windows == before

    run(test())


@pytest.mark.parametrize("op", [RST, CREDIT_REQUEST, CREDIT_UPDATE, SHUTDOWN, RW, 99])
def test_packets_of_nobody_leave_nothing_behind(op: int) -> None:
    """Packets of connections that do not exist are answered or dropped; nothing is kept of them."""

    async def test() -> None:
        async with VsockHost() as host:
            with Grown() as grown:
                for port in range(600):
                    await send_raw(host, op, 1024 + port)
                    host.guest.receive.take_used()
                    host.guest.offer_buffers()
            assert len(host.device._streams) == 0
            assert grown.size < 100 * KIB

    run(test())


def test_answers_that_nobody_takes_are_bounded() -> None:
    """A guest that floods and offers no room for answers is left standing, not remembered."""

    async def test() -> None:
        async with VsockHost(buffers=0) as host:
            for port in range(1000):
                host.guest.raw((16, PARENT, 1024 + port, 4999, 0, 1, REQUEST, 0, 1 << 18, 0))
            await asyncio.sleep(0.05)
            assert len(host.device._replies) <= 256

    run(test())


def test_credit_that_was_never_given_ends_the_connection_alone() -> None:
    """Claiming to have taken bytes that were never sent resets that connection; others go on."""

    async def test() -> None:
        async with VsockHost() as host:
            liar, honest = host.guest.connect(OPEN_PORT), host.guest.connect(OPEN_PORT)
            await host.settle()
            await send_raw(host, CREDIT_UPDATE, liar.port, fwd_cnt=1 << 31)
            await host.settle()
            assert (liar.state, honest.state) == ("closed", "open")
            host.guest.send(honest, b"still here")
            await host.settle()
            assert host.dialled[1].recv(100) == b"still here"

    run(test())


@pytest.mark.parametrize("seed", range(20))
def test_garbage_in_the_rings_ends_the_device_or_nothing(seed: int) -> None:
    """Rings overwritten with random bytes while the device runs: it ends with DeviceError, or goes on."""
    dice = random.Random(seed)

    async def test() -> None:
        front = FrontEnd((8,), memory_size=1 << 20, buffer_size=0x4000)
        task = asyncio.create_task(serve_device(front.back_end, NsmDevice(lambda request: request)))
        front.set_up()
        ring = front.queues[0]
        for _ in range(50):
            start = dice.randrange(ring.buffers)
            garbage = dice.randbytes(dice.choice([1, 2, 16, 128]))
            front.memory[start : start + len(garbage)] = garbage
            ring.notify()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        front.socket.close()
        with suppress(DeviceError):
            await task
        front.close()

    run(test())
