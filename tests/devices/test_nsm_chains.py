"""The security module's ring as a hostile or merely odd driver writes it."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from cloister.devices import NsmDevice
from cloister.nsm import MAX_REQUEST, NotYetError
from cloister.vhost import DeviceError, serve_device
from simulators.vhost_front_end import GUEST_BASE, INDIRECT, NEXT, WRITE, DriverQueue, FrontEnd, until

Chain = tuple[list[bytes], list[int]]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, with a time limit."""
    asyncio.run(asyncio.wait_for(coroutine, 60))


def echo(request: bytes) -> bytes:
    """Answer with the length and the end of a request."""
    return b"%d:" % len(request) + request[-8:]


class Host:
    """A served device and its driver."""

    def __init__(self, device: NsmDevice) -> None:
        self.front = FrontEnd((16,), memory_size=1 << 20, buffer_size=0x4000)
        self.task = asyncio.create_task(serve_device(self.front.back_end, device))
        self.front.set_up()
        self.ring = self.front.queues[0]

    async def turns(self, count: int = 40) -> None:
        """Let the loop go round."""
        for _ in range(count):
            await asyncio.sleep(0)

    async def returned(self, count: int) -> list[tuple[int, int, bytes]]:
        """Wait until so many chains have come back and return them."""
        back: list[tuple[int, int, bytes]] = []

        def complete() -> bool:
            back.extend(self.ring.take_used())
            return len(back) >= count

        await until(complete)
        return back

    async def close(self) -> None:
        """Close the connection and wait for the device's end; raises what ended it."""
        self.front.socket.close()
        try:
            await self.task
        finally:
            self.front.close()


def expected_answers(chains: list[Chain]) -> list[tuple[int, bytes]]:
    """Return what each chain comes back with, in order: the rule, written a second time."""
    answers: list[tuple[int, bytes]] = []

    def answer(readable: list[bytes], writable: list[int]) -> tuple[int, bytes]:
        content = echo(b"".join(readable)[: MAX_REQUEST + 1]) if readable else b""
        return (len(content), content) if len(content) <= sum(writable) else (0, b"")

    for place, (readable, writable) in enumerate(chains):
        before = chains[place - 1] if place else ([], [0])
        if writable:
            answers.append(answer(readable or (before[0] if not before[1] else []), writable))
        elif place + 1 < len(chains):
            answers.append((0, b""))
    return answers


@pytest.mark.parametrize("seed", range(40))
def test_any_sequence_of_chains(seed: int) -> None:
    """However requests and places are cut, mixed and missing, each comes back with what is its own."""
    dice = random.Random(seed)

    def some_chain() -> Chain:
        kind = dice.choice(["request", "place", "place", "both"])
        parts = [dice.randbytes(dice.choice([0, 1, 9, 4095, 4096, 5000])) for _ in range(dice.randint(1, 2))]
        lengths = [dice.choice([0, 3, 8, 0x3000]) for _ in range(dice.randint(1, 2))]
        return (parts if kind != "place" else [], lengths if kind != "request" else [])

    chains = [some_chain() for _ in range(4)]

    async def test() -> None:
        host = Host(NsmDevice(echo))
        for readable, writable in chains:
            assert host.ring.add(*readable, writable=writable)
            if dice.random() < 0.5:
                host.ring.notify()
                await host.turns(dice.choice([0, 3]))
        host.ring.notify()
        wanted = expected_answers(chains)
        back = await host.returned(len(wanted))
        await host.turns()
        assert host.ring.take_used() == []
        # an answer that spans two places is compared by its length: the model driver reads the last one
        assert [length for _, length, _ in back] == [length for length, _ in wanted]
        single = [len(writable) < 2 for _, writable in chains]
        for (_, length, content), (_, right), alone in zip(back, wanted, single, strict=False):
            if alone and length:
                assert content == right
        await host.close()

    run(test())


def test_request_without_a_place_is_not_given_back() -> None:
    """A driver that is interrupted between its two buffers would take the first's return for its answer."""

    async def test() -> None:
        host = Host(NsmDevice(echo))
        host.ring.add(b"question")
        host.ring.notify()
        await host.turns()
        assert (host.ring.take_used(), host.ring.interrupted()) == ([], False)
        host.ring.add(writable=[100])
        host.ring.notify()
        await until(host.ring.interrupted)
        assert [(length, content[:length]) for _, length, content in host.ring.take_used()] == [
            (0, b""), (10, b"8:question"),
        ]  # fmt: skip
        await host.close()

    run(test())


def test_request_that_cannot_be_answered_yet_waits_in_the_ring() -> None:
    """Until its answer can be given nothing is taken, what came after waits too, and the loop goes on."""

    async def test() -> None:
        awaited: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def handle(request: bytes) -> bytes:
            if request == b"document" and not awaited.done():
                raise NotYetError("soon")
            return echo(request)

        host = Host(NsmDevice(handle, ready=lambda: awaited))
        host.ring.add(b"before", writable=[100])
        host.ring.notify()
        await host.returned(1)
        host.ring.add(b"document")
        host.ring.add(writable=[100])
        host.ring.add(b"after", writable=[100])
        host.ring.notify()
        await host.turns()
        assert host.ring.take_used() == []
        awaited.set_result(None)
        back = await host.returned(3)
        assert [length for _, length, _ in back] == [0, 10, 7]
        await host.close()

    run(test())


def test_readiness_that_comes_at_once_is_enough() -> None:
    """A module that is ready again by the time it has refused is asked again without a kick."""

    async def test() -> None:
        refusals = [NotYetError("a moment")]

        def handle(request: bytes) -> bytes:
            if refusals:
                raise refusals.pop()
            return echo(request)

        host = Host(NsmDevice(handle))
        host.ring.add(b"now", writable=[100])
        host.ring.notify()
        await host.returned(1)
        await host.close()

    run(test())


def loop_of_two(ring: DriverQueue) -> None:
    """Two descriptors that follow each other for ever."""
    ring.describe(0, ring.address(0), 8, NEXT, 1)
    ring.describe(1, ring.address(1), 8, NEXT, 0)


FAULTS: dict[str, Callable[[DriverQueue], None]] = {
    "a loop": loop_of_two,
    "next outside the table": lambda ring: ring.describe(0, ring.address(0), 8, NEXT, 99),
    "outside of memory": lambda ring: ring.describe(0, 1 << 60, 8, 0),
    "beyond the end of memory": lambda ring: ring.describe(0, GUEST_BASE + (1 << 20) - 4, 8, 0),
    "wraps around": lambda ring: ring.describe(0, (1 << 64) - 4, 8, 0),
    "4 GiB long": lambda ring: ring.describe(0, ring.address(0), (1 << 32) - 1, 0),
    "a place outside of memory": lambda ring: ring.describe(0, 0, 0x3000, WRITE),
    "indirect, not negotiated": lambda ring: ring.describe(0, ring.address(0), 16, INDIRECT),
}


def readable_after_writable(ring: DriverQueue) -> None:
    """Put the request behind the place."""
    ring.describe(0, ring.address(0), 8, NEXT | WRITE, 1)
    ring.describe(1, ring.address(1), 8, 0)


FAULTS["a request behind its place"] = readable_after_writable


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("second", [False, True], ids=["as the request", "as the place"])
def test_corrupt_descriptors_end_the_device(name: str, second: bool) -> None:
    """A descriptor that makes no sense ends the device with DeviceError before the module is asked."""
    asked: list[bytes] = []

    def handle(request: bytes) -> bytes:
        asked.append(request)
        return b"answer"

    async def test() -> None:
        host = Host(NsmDevice(handle))
        FAULTS[name](host.ring)
        if second:
            host.ring.describe(5, host.ring.address(5), 4, 0)
            host.ring.offer(5)
        host.ring.offer(0)
        host.ring.notify()
        with pytest.raises(DeviceError):
            await host.task
        host.front.close()

    run(test())
    assert asked == []


@pytest.mark.parametrize("count", [17, 0x8000, 0xFFFF])
def test_more_available_than_there_can_be(count: int) -> None:
    """A ring that claims more than it holds ends the device."""

    async def test() -> None:
        host = Host(NsmDevice(echo))
        host.ring.set_available(count)
        host.ring.notify()
        with pytest.raises(DeviceError, match="claims"):
            await host.task
        host.front.close()

    run(test())


@pytest.mark.parametrize("seed", range(20))
def test_garbage_while_a_request_waits(seed: int) -> None:
    """Rings bent while the device holds a request back end it with DeviceError, or nothing."""
    dice = random.Random(seed)

    async def test() -> None:
        awaited: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def handle(request: bytes) -> bytes:
            if not awaited.done():
                raise NotYetError("soon")
            return echo(request)

        host = Host(NsmDevice(handle, ready=lambda: awaited))
        host.ring.add(b"document")
        host.ring.add(writable=[0x3000])
        host.ring.notify()
        await host.turns(5)
        for _ in range(20):
            start = dice.randrange(host.ring.buffers)
            garbage = dice.randbytes(dice.choice([1, 2, 16]))
            host.front.memory[start : start + len(garbage)] = garbage
        awaited.set_result(None)
        await host.turns()
        with suppress(DeviceError):
            await host.close()

    run(test())


def test_place_over_the_request_itself() -> None:
    """The request is read before its answer is written, so that one buffer for both does no harm."""

    async def test() -> None:
        host = Host(NsmDevice(echo))
        host.front.memory[host.ring.buffers : host.ring.buffers + 8] = b"question"
        host.ring.describe(0, host.ring.address(0), 8, 0)
        host.ring.describe(1, host.ring.address(0), 0x3000, WRITE)
        host.ring.chains.update({0: [0], 1: [1]})
        host.ring.offer(0)
        host.ring.offer(1)
        host.ring.notify()
        await until(host.ring.interrupted)
        assert bytes(host.front.memory[host.ring.buffers :][:10]) == b"8:question"
        await host.close()

    run(test())
