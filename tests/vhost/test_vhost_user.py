"""The vhost-user back end and its rings against a front end that can lie."""

import asyncio
import gc
import os
import struct
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.vhost import DeviceError, GuestMemory, Virtqueue, serve_device
from simulators.vhost_front_end import (
    EVENT_IDX,
    GUEST_BASE,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    USER_BASE,
    WRITE,
    FrontEnd,
    memory_file,
    until,
)


class EchoDevice:
    """Writes what it reads back into the same chain."""

    features = INDIRECT_DESC | EVENT_IDX
    queue_count = 1
    config = b"configuration"

    def __init__(self) -> None:
        self.queue: Virtqueue | None = None
        self.served = 0
        self.ended = False

    def begin(self, fail: Callable[[DeviceError], None]) -> None:
        """Prepare nothing."""

    def queue_started(self, _index: int, queue: Virtqueue) -> None:
        """Take the ring."""
        self.queue = queue

    def queue_stopped(self, _index: int) -> None:
        """Leave the ring."""
        self.queue = None

    def kicked(self, _index: int) -> None:
        """Serve the ring."""
        assert self.queue is not None
        self.queue.disarm()
        while True:
            while (chain := self.queue.pop()) is not None:
                content = b"".join(chain.readable)
                for view in chain.writable:
                    view[: len(content)] = content[: len(view)]
                self.queue.push(chain.head, len(content))
                self.served += 1
            if not self.queue.arm():
                break
        self.queue.publish()

    def end(self) -> None:
        """Note the end."""
        self.ended = True


class Served:
    """An echo device in service."""

    def __init__(self, *, features: int = 0, size: int = 8, set_up: bool = True) -> None:
        self.front = FrontEnd((size,), memory_size=1 << 20)
        self.ring = self.front.queues[0]
        self.device = EchoDevice()
        self.memory = GuestMemory()
        self._features = features
        self._set_up = set_up

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(serve_device(self.front.back_end, self.device, memory=self.memory))
        if self._set_up:
            self.front.set_up(self._features)
            await until(lambda: self.device.queue)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.memory.close()
        self.front.close()

    async def error(self) -> str:
        """Return why the device ended."""
        with pytest.raises(DeviceError) as caught:
            await asyncio.wait_for(asyncio.shield(self.task), 2)
        assert self.device.ended
        return str(caught.value)


def open_files() -> set[str]:
    """Return the descriptors of this process, without those that wait for the collector."""
    gc.collect()
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, with a time limit."""
    asyncio.run(asyncio.wait_for(coroutine, 20))


@pytest.mark.parametrize("features", [0, EVENT_IDX, INDIRECT_DESC, EVENT_IDX | INDIRECT_DESC])
def test_chains_come_back_and_the_driver_is_told(features: int) -> None:
    """Every chain is served once, in order, across many turns of the ring, and an interrupt follows."""

    async def test() -> None:
        async with Served(features=features) as served:
            answers = []
            for number in range(50):
                content = b"%d" % number
                served.ring.add(content, writable=[100])
                struct.pack_into(
                    "<H", served.front.memory, served.ring.available + 4 + 16, number
                )  # used_event
                served.ring.notify()
                await until(served.ring.interrupted)
                answers += [answer for _, _, answer in served.ring.take_used()]
            assert [b"%d" % number for number in range(50)] == answers

    run(test())


def test_no_interrupt_when_the_driver_wants_none() -> None:
    """VRING_AVAIL_F_NO_INTERRUPT is honoured (virtio 1.2 section 2.7.7)."""

    async def test() -> None:
        async with Served() as served:
            struct.pack_into("<H", served.front.memory, served.ring.available, 1)
            served.ring.add(b"x", writable=[10])
            served.ring.notify()
            await until(lambda: served.device.served)
            assert len(served.ring.take_used()) == 1
            assert not served.ring.interrupted()

    run(test())


def test_indirect_tables_are_walked() -> None:
    """A chain in an indirect table is served like any other."""

    async def test() -> None:
        async with Served(features=INDIRECT_DESC) as served:
            ring, memory = served.ring, served.front.memory
            table = ring.buffers + 5 * 4096
            memory[ring.buffers : ring.buffers + 5] = b"hello"
            struct.pack_into("<QIHH", memory, table, ring.address(0), 5, NEXT, 1)
            struct.pack_into("<QIHH", memory, table + 16, ring.address(1), 64, WRITE, 0)
            ring.describe(0, ring.address(5), 32, INDIRECT)
            ring.offer(0)
            ring.notify()
            await until(lambda: served.device.served)
            assert bytes(memory[ring.buffers + 4096 : ring.buffers + 4101]) == b"hello"

    run(test())


BROKEN_RINGS = {
    "loop": ([(0, 1, NEXT, 1), (1, 1, NEXT, 0)], "loop"),
    "index outside": ([(0, 1, NEXT, 900)], "outside its table"),
    "address outside": ([(1 << 40, 1, 0, 0)], "not memory"),
    "wraps around": ([((1 << 64) - 8, 16, 0, 0)], "not memory"),
    "runs over the end": ([((1 << 20) - 8, 16, 0, 0)], "not memory"),
    "too long": ([(0, 1 << 19, NEXT, 1), (0, 1 << 19, NEXT, 2), (0, 1, 0, 0)], "more than"),
    "readable after writable": ([(0, 1, WRITE | NEXT, 1), (0, 1, 0, 0)], "readable descriptor follows"),
    "indirect and next": ([(0, 32, INDIRECT | NEXT, 1)], "indirect"),
    "indirect of odd size": ([(0, 33, INDIRECT, 0)], "indirect table"),
    "indirect of nothing": ([(0, 0, INDIRECT, 0)], "indirect table"),
    "indirect too long": ([(0, 1600, INDIRECT, 0)], "indirect table"),
}


@pytest.mark.parametrize("name", BROKEN_RINGS)
def test_a_broken_ring_ends_the_device(name: str) -> None:
    """Descriptors that make no sense end the device with one sentence."""

    async def test() -> None:
        rows, expected = BROKEN_RINGS[name]
        async with Served(features=INDIRECT_DESC) as served:
            for index, (offset, length, flags, following) in enumerate(rows):
                served.ring.describe(index, (GUEST_BASE + offset) % (1 << 64), length, flags, following)
            served.ring.offer(0)
            served.ring.notify()
            assert expected in await served.error()

    run(test())


def test_indirect_must_be_negotiated() -> None:
    """An indirect descriptor that was not agreed on, or one inside another, ends the device."""

    async def test() -> None:
        async with Served() as served:
            served.ring.describe(0, served.ring.address(1), 16, INDIRECT)
            served.ring.offer(0)
            served.ring.notify()
            assert "indirect" in await served.error()
        async with Served(features=INDIRECT_DESC) as served:
            ring = served.ring
            struct.pack_into("<QIHH", served.front.memory, ring.buffers, ring.address(0), 16, INDIRECT, 0)
            ring.describe(0, ring.address(0), 16, INDIRECT)
            ring.offer(0)
            ring.notify()
            assert "indirect" in await served.error()

    run(test())


def test_more_available_than_the_ring_holds_ends_the_device() -> None:
    """An available index that has run ahead of the ring's size is a lie."""

    async def test() -> None:
        async with Served() as served:
            served.ring.set_available(9)
            served.ring.notify()
            assert "available buffers" in await served.error()

    run(test())


@settings(max_examples=60, deadline=None)
@given(content=st.binary(min_size=0, max_size=300), available=st.integers(0, 8))
def test_random_rings_never_crash(content: bytes, available: int) -> None:
    """Whatever bytes stand in the descriptor table, the device serves them or ends with DeviceError."""

    async def test() -> None:
        async with Served(features=INDIRECT_DESC) as served:
            start = served.ring.descriptors
            served.front.memory[start : start + min(len(content), 128)] = content[:128]
            for head in range(available):
                served.ring.offer(head)
            served.ring.notify()
            await asyncio.sleep(0.001)
            if served.task.done():
                assert isinstance(served.task.exception(), DeviceError)

    run(test())


def test_the_front_end_is_answered() -> None:
    """Features, protocol features, queue number and configuration are told as asked."""

    async def test() -> None:
        async with Served(set_up=False) as served:
            (features,) = struct.unpack("<Q", await served.front.ask(1))
            assert features == INDIRECT_DESC | EVENT_IDX | 1 << 30 | 1 << 32
            (protocol,) = struct.unpack("<Q", await served.front.ask(15))
            assert protocol & (1 | 1 << 3 | 1 << 9) == (1 | 1 << 3 | 1 << 9)
            assert struct.unpack("<Q", await served.front.ask(17)) == (1,)
            window = await served.front.ask(24, struct.pack("<III", 0, 13, 0) + bytes(13))
            assert window[12:] == b"configuration"
            served.front.send_u64(16, 1 << 3)
            assert await served.front.ask(3, flags=9) == bytes(8), "acknowledged on demand"

    run(test())


def test_a_talkative_peer_leaves_the_loop_to_others() -> None:
    """A thousand messages in one piece are taken in several turns of the loop, and all are taken."""

    async def test() -> None:
        async with Served(set_up=False) as served:
            await served.front.ask(1)
            served.front.socket.sendall(struct.pack("<III", 3, 1, 0) * 1000)
            answer = asyncio.create_task(served.front.ask(1))
            turns = 0
            while not answer.done():
                turns += 1
                await asyncio.sleep(0)
            assert turns > 1000 // 64

    run(test())


def test_a_ring_can_be_stopped_and_started_again() -> None:
    """GET_VRING_BASE says where the ring stands, and it goes on from there."""

    async def test() -> None:
        async with Served() as served:
            for _ in range(3):
                served.ring.add(b"x", writable=[1])
            served.ring.notify()
            await until(lambda: served.device.served == 3)
            assert struct.unpack("<II", await served.front.ask(11, struct.pack("<II", 0, 0))) == (0, 3)
            assert served.device.queue is None
            served.front.send(10, struct.pack("<II", 0, 3))
            served.front.send_u64(12, 0, [served.ring.kick])
            served.ring.add(b"y", writable=[1])
            await until(lambda: served.device.served == 4)

    run(test())


def test_memory_can_be_mapped_anew_while_a_ring_runs() -> None:
    """SET_MEM_TABLE replaces mappings and files; the ring goes on in the new ones."""

    async def test() -> None:
        async with Served() as served:
            old = served.memory.files
            files_before = len(open_files())
            served.front.send(5, served.front.memory_table(), [served.front.file])
            await served.front.ask(17)
            assert len(open_files()) == files_before
            assert len(served.memory.files) == len(old) == 1
            served.ring.add(b"x", writable=[1])
            served.ring.notify()
            await until(lambda: served.device.served == 1)

    run(test())


def test_the_caller_keeps_the_memory() -> None:
    """After the peer is gone the caller's guest memory is still mapped, so that it can be overwritten."""

    async def test() -> None:
        async with Served() as served:
            served.front.socket.close()
            await asyncio.wait_for(served.task, 2)
            assert served.device.ended
            served.memory.view(GUEST_BASE, 4)[:] = b"gone"
            assert bytes(served.front.memory[:4]) == b"gone"

    run(test())


MESSAGES: dict[str, tuple[Callable[[FrontEnd], object], str]] = {
    "unknown request": (lambda f: f.send(99), "never offered"),
    "wrong version": (lambda f: f.send(1, flags=2), "version"),
    "huge payload": (lambda f: f.socket.send(struct.pack("<III", 1, 1, 1 << 30)), "announces"),
    "features never offered": (lambda f: f.send_u64(2, 1 << 40), "features"),
    "protocol features never offered": (lambda f: f.send_u64(16, 1 << 40), "protocol features"),
    "ring out of range": (lambda f: f.send(8, struct.pack("<II", 7, 8)), "does not exist"),
    "short payload": (lambda f: f.send(9, b"123"), "payload"),
    "kick without file": (lambda f: f.send_u64(12, 0), "files"),
    "polled ring": (lambda f: f.send_u64(12, 0x100), "kick eventfd"),
    "kick is a memory file": (lambda f: f.send_u64(12, 0, [f.file]), "eventfd"),
    "call is a socket": (lambda f: f.send_u64(13, 0, [f.socket.fileno()]), "eventfd"),
    "files where none belong": (lambda f: f.send_u64(2, 0, [f.file]), "expected none"),
    "memory without file": (lambda f: f.send(5, f.memory_table()), "files"),
    "memory past its file": (
        lambda f: f.send(5, f.memory_table((GUEST_BASE, 1 << 21, USER_BASE, 0)), [f.file]),
        "inside its file",
    ),
    "empty memory": (lambda f: f.send(5, f.memory_table((GUEST_BASE, 0, USER_BASE, 0)), [f.file]), "empty"),
    "memory wraps": (
        lambda f: f.send(5, f.memory_table(((1 << 64) - 1, 4096, USER_BASE, 0)), [f.file]),
        "wraps",
    ),
    "memory is no memory file": (lambda f: f.send(5, f.memory_table(), [f.socket.fileno()]), "memory file"),
    "no regions": (lambda f: f.send(5, struct.pack("<II", 0, 0), [f.file]), "regions"),
    "config too large": (lambda f: f.send(24, struct.pack("<III", 0, 300, 0) + bytes(300)), "config"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_broken_message_ends_the_device(name: str) -> None:
    """A message out of bounds ends the device with one sentence and leaks no file."""

    async def test() -> None:
        before = open_files()
        send, expected = MESSAGES[name]
        async with Served(set_up=False) as served:
            send(served.front)
            assert expected in await served.error()
        assert open_files() == before

    run(test())


def test_memory_that_could_shrink_is_refused() -> None:
    """A memory file without the seal against shrinking is refused: touching it could kill the process."""

    async def test() -> None:
        async with Served(set_up=False) as served:
            file = memory_file(1 << 20, sealed=False)
            served.front.send(5, served.front.memory_table(), [file])
            os.close(file)
            assert "shrink" in await served.error()

    run(test())


@pytest.mark.parametrize(
    ("size", "shift"), [(0, 0), (7, 0), (65536, 0), (8, 2)], ids=["empty", "odd", "huge", "unaligned"]
)
def test_an_impossible_ring_ends_the_device(size: int, shift: int) -> None:
    """Ring sizes and addresses that the specification excludes are refused when the ring starts."""

    async def test() -> None:
        async with Served(set_up=False) as served:
            ring = served.ring
            ring.size = size
            ring.descriptors += shift
            served.front.set_up()
            assert "ring" in await served.error()

    run(test())
