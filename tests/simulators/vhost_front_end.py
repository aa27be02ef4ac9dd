"""A guest's driver and its QEMU in one: rings in a memory file, and vhost-user over a socketpair.

It can also lie: raw descriptors, raw ring indices and raw messages are there for hostile tests.
"""

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress

GUEST_BASE = 0x1000_0000
USER_BASE = 0x7F00_0000_0000
NEXT, WRITE, INDIRECT = 1, 2, 4
EVENT_IDX = 1 << 29
INDIRECT_DESC = 1 << 28
PROTOCOL_FEATURES = 1 << 30
VERSION_1 = 1 << 32


def memory_file(size: int, *, sealed: bool = True) -> int:
    """Return a memory file such as QEMU makes."""
    file = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(file, size)
    if sealed:
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return file


class DriverQueue:
    """The driver's half of a split ring (virtio 1.2 section 2.7), and a bump allocator for its buffers."""

    def __init__(self, memory: memoryview, offset: int, size: int, buffer_size: int) -> None:
        self.size = size
        self.memory = memory
        self.descriptors = offset
        self.available = offset + 16 * size
        self.used = (self.available + 6 + 2 * size + 3) & ~3
        self.buffers = (self.used + 6 + 8 * size + 63) & ~63
        self.buffer_size = buffer_size
        self.end = self.buffers + size * buffer_size
        self.free = list(range(size))
        self.next_available = 0
        self.seen_used = 0
        self.kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.call = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.chains: dict[int, list[int]] = {}

    def describe(self, index: int, address: int, length: int, flags: int, following: int = 0) -> None:
        """Write one descriptor, true or not."""
        struct.pack_into(
            "<QIHH", self.memory, self.descriptors + 16 * index, address, length, flags, following
        )

    def offer(self, head: int) -> None:
        """Make a chain available."""
        slot = self.available + 4 + 2 * (self.next_available % self.size)
        struct.pack_into("<H", self.memory, slot, head)
        self.set_available((self.next_available + 1) & 0xFFFF)

    def set_available(self, index: int) -> None:
        """Claim that everything below an index is available."""
        self.next_available = index
        struct.pack_into("<H", self.memory, self.available + 2, index)

    def address(self, index: int) -> int:
        """Return the guest address of a descriptor's own buffer."""
        return GUEST_BASE + self.buffers + index * self.buffer_size

    def add(self, *parts: bytes, writable: Sequence[int] = ()) -> bool:
        """Offer a chain of readable parts and writable lengths; False when the ring is full."""
        count = len(parts) + len(writable)
        if len(self.free) < count:
            return False
        indices = [self.free.pop() for _ in range(count)]
        for place, index in enumerate(indices):
            readable = place < len(parts)
            length = len(parts[place]) if readable else writable[place - len(parts)]
            if readable:
                start = self.buffers + index * self.buffer_size
                self.memory[start : start + length] = parts[place]
            flags = (0 if readable else WRITE) | (NEXT if place + 1 < count else 0)
            following = indices[place + 1] if place + 1 < count else 0
            self.describe(index, self.address(index), length, flags, following)
        self.chains[indices[0]] = indices
        self.offer(indices[0])
        return True

    def take_used(self) -> list[tuple[int, int, bytes]]:
        """Return (head, length, first buffer's bytes) of each chain the device gave back."""
        taken = []
        (index,) = struct.unpack_from("<H", self.memory, self.used + 2)
        while self.seen_used != index:
            head, length = struct.unpack_from(
                "<II", self.memory, self.used + 4 + 8 * (self.seen_used % self.size)
            )
            indices = self.chains.pop(head)
            start = self.buffers + indices[-1] * self.buffer_size
            taken.append((head, length, bytes(self.memory[start : start + length])))
            self.free += indices
            self.seen_used = (self.seen_used + 1) & 0xFFFF
        return taken

    def notify(self) -> None:
        """Kick, whether the device wants it or not."""
        os.eventfd_write(self.kick, 1)

    def interrupted(self) -> bool:
        """Whether the device interrupted since the last time."""
        with suppress(BlockingIOError):
            return os.eventfd_read(self.call) > 0
        return False


class FrontEnd:
    """QEMU's part: memory, rings, messages. ``back_end`` is the socket to give to ``serve_device``."""

    def __init__(
        self, sizes: Sequence[int] = (16, 16), *, memory_size: int = 4 << 20, buffer_size: int = 4096
    ) -> None:
        import mmap

        self.file = memory_file(memory_size)
        self.memory_size = memory_size
        self._mapping = mmap.mmap(self.file, memory_size)
        self.memory = memoryview(self._mapping)
        self.socket, self.back_end = socket.socketpair()
        self.socket.setblocking(False)
        self.queues: list[DriverQueue] = []
        offset = 0
        for size in sizes:
            self.queues.append(DriverQueue(self.memory, offset, size, buffer_size))
            offset = (self.queues[-1].end + 4095) & ~4095
        assert offset <= memory_size

    def close(self) -> None:
        """Let go of everything."""
        self.socket.close()
        self.memory.release()
        self._mapping.close()
        os.close(self.file)
        for queue in self.queues:
            os.close(queue.kick)
            os.close(queue.call)

    def send(self, request: int, payload: bytes = b"", files: Sequence[int] = (), *, flags: int = 1) -> None:
        """Send one message."""
        socket.send_fds(
            self.socket, [struct.pack("<III", request, flags, len(payload)) + payload], list(files)
        )

    def send_u64(self, request: int, value: int, files: Sequence[int] = ()) -> None:
        """Send a message with the usual payload."""
        self.send(request, struct.pack("<Q", value), files)

    async def ask(self, request: int, payload: bytes = b"", *, flags: int = 1) -> bytes:
        """Send a message and return the payload of its reply."""
        self.send(request, payload, flags=flags)
        loop = asyncio.get_running_loop()
        answer = await asyncio.wait_for(loop.sock_recv(self.socket, 4096), 2)
        kind, _, size = struct.unpack_from("<III", answer)
        assert (kind, size) == (request, len(answer) - 12)
        return answer[12:]

    def memory_table(self, *regions: tuple[int, int, int, int]) -> bytes:
        """Return SET_MEM_TABLE's payload; without arguments the truth."""
        rows = regions or ((GUEST_BASE, self.memory_size, USER_BASE, 0),)
        return struct.pack("<II", len(rows), 0) + b"".join(struct.pack("<QQQQ", *row) for row in rows)

    def set_up(self, features: int = 0) -> None:
        """Say all that QEMU says before a device runs."""
        self.send(3)
        self.send_u64(2, features | VERSION_1 | PROTOCOL_FEATURES)
        self.send(5, self.memory_table(), [self.file])
        for index in range(len(self.queues)):
            self.start_queue(index)

    def start_queue(self, index: int) -> None:
        """Say all that belongs to one ring."""
        queue = self.queues[index]
        self.send(8, struct.pack("<II", index, queue.size))
        self.send(10, struct.pack("<II", index, 0))
        parts = (USER_BASE + part for part in (queue.descriptors, queue.used, queue.available))
        self.send(9, struct.pack("<IIQQQQ", index, 0, *parts, 0))
        self.send_u64(12, index, [queue.kick])
        self.send_u64(13, index, [queue.call])
        self.send(18, struct.pack("<II", index, 1))


async def until(condition: Callable[[], object], seconds: float = 2.0) -> None:
    """Let the loop run until something is true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- shared memory has no event to wait for
            await asyncio.sleep(0.0005)
