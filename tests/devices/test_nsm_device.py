"""The security module's device: from rings to the function that answers."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from cloister.devices import NsmDevice
from cloister.errors import CloisterError
from cloister.nsm import NotYetError
from cloister.vhost import serve_device
from simulators.vhost_front_end import FrontEnd, until


def echo(request: bytes) -> bytes:
    """Answer with the length and the end of a request."""
    if request == b"trouble":
        raise CloisterError("trouble")
    return b"%d:" % len(request) + request[-8:]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, with a time limit."""
    asyncio.run(asyncio.wait_for(coroutine, 20))


async def ask(chains: list[tuple[list[bytes], list[int]]]) -> list[tuple[int, bytes]]:
    """Offer chains and return the answers the device gives back, in order."""
    front = FrontEnd((8,), memory_size=1 << 20, buffer_size=0x4000)
    task = asyncio.create_task(serve_device(front.back_end, NsmDevice(echo)))
    front.set_up()
    ring = front.queues[0]
    for readable, writable in chains:
        ring.add(*readable, writable=writable)
    ring.notify()
    used: list[tuple[int, bytes]] = []

    def all_back() -> bool:
        used.extend((length, content) for _, length, content in ring.take_used())
        return len(used) == len(chains)

    await until(all_back)
    front.socket.close()
    await task
    front.close()
    return used


CASES: dict[str, tuple[list[tuple[list[bytes], list[int]]], list[tuple[int, bytes]]]] = {
    "Linux: request, then place": ([([b"hello"], []), ([], [0x3000])], [(0, b""), (7, b"5:hello")]),
    "one chain": ([([b"hel", b"lo"], [0x3000])], [(7, b"5:hello")]),
    "twice": (
        [([b"a"], []), ([], [0x3000]), ([b"b"], []), ([], [0x3000])],
        [(0, b""), (3, b"1:a"), (0, b""), (3, b"1:b")],
    ),
    "too large is for the module to say": ([([b"x" * 0x1400], [0x3000])], [(13, b"4097:xxxxxxxx")]),
    "no request": ([([], [0x3000])], [(0, b"")]),
    "an empty request is for the module to refuse": ([([b""], []), ([], [0x3000])], [(0, b""), (2, b"0:")]),
    "the first of two requests has no place": (
        [([b"a"], []), ([b"bc"], []), ([], [100])],
        [(0, b""), (0, b""), (4, b"2:bc")],
    ),
    "no place": ([([b"hello"], [3])], [(0, b"")]),
    "the module is in trouble": ([([b"trouble"], [100])], [(0, b"")]),
    "answered once": ([([b"a"], [100]), ([], [100])], [(3, b"1:a"), (0, b"")]),
}


@pytest.mark.parametrize("name", CASES)
def test_requests_and_answers(name: str) -> None:
    """Requests meet their answers however the driver cuts them; what is malformed comes back empty."""
    chains, expected = CASES[name]

    async def test() -> None:
        assert expected == await ask(chains)

    run(test())


@pytest.mark.parametrize("comes", [True, False])
def test_requests_wait_in_the_ring_until_they_can_be_answered(comes: bool) -> None:
    """Before the module is ready nothing is taken and the loop goes on; then all is answered, or nothing."""

    async def test() -> None:
        front = FrontEnd((8,), memory_size=1 << 20, buffer_size=0x4000)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def handle(request: bytes) -> bytes:
            if not ready.done():
                raise NotYetError("it is being prepared")
            return echo(request)

        device = NsmDevice(handle, ready=lambda: ready)
        task = asyncio.create_task(serve_device(front.back_end, device))
        front.set_up()
        ring = front.queues[0]
        for request in (b"a", b"b"):
            ring.add(request, writable=[0x3000])
        ring.notify()
        for _ in range(20):
            await asyncio.sleep(0.001)
            assert ring.take_used() == []
        if comes:
            ready.set_result(None)
        else:
            ready.set_exception(CloisterError("no root of trust"))
        await asyncio.sleep(0.01)
        answers = [content for _, _, content in ring.take_used()]
        assert answers == ([b"1:a", b"1:b"] if comes else [])
        front.socket.close()
        await task
        front.close()

    run(test())
