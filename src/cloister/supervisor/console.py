"""What a debug enclave prints: kept in a bounded ring, given to every reader from its beginning.

Readers come by vsock, CID 0 port cid + 10000 (nitro-tools 1.7). A reader that is slower than the guest loses
the oldest output; the guest is never held up.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

RING_SIZE: Final = 1 << 20
MAX_READERS: Final = 32
SEND_SIZE: Final = 1 << 16
PAUSE_SECONDS: Final = 0.01
END_SECONDS: Final = 2.0
"""How long the last output may take to reach a reader after the enclave's end."""
PORT_OFFSET: Final = 10000


class ConsoleLog:
    """Output with positions counted from the enclave's start; the oldest is dropped beyond the size."""

    def __init__(self, size: int = RING_SIZE) -> None:
        self._size = size
        self._kept = bytearray()
        self._start = 0

    @property
    def end(self) -> int:
        """The position after the last byte."""
        return self._start + len(self._kept)

    def append(self, output: bytes) -> None:
        """Add output."""
        self._kept += output
        surplus = len(self._kept) - self._size
        if surplus > 0:
            del self._kept[:surplus]
            self._start += surplus

    def tail(self, size: int) -> bytes:
        """Return the newest so many bytes, or fewer."""
        return bytes(self._kept[-size:])

    def read(self, position: int, limit: int) -> tuple[int, bytes]:
        """Return output from a position on, or from the oldest kept, and the position after it."""
        begin = max(position, self._start)
        output = bytes(self._kept[begin - self._start : begin - self._start + limit])
        return begin + len(output), output


class Console:
    """Reads a guest's console and serves readers until the guest's end is reached and they have all of it."""

    def __init__(
        self, source: int, listener: socket.socket, *, record: Callable[[bytes], None] = lambda _: None
    ) -> None:
        """Take over the read end of the guest's pipe, and the listener; ``record`` gets all output once."""
        self.log = ConsoleLog()
        self.complete = asyncio.Event()
        """Set when the guest's last output is in the log."""
        self._record = record
        self._source = source
        self._listener = listener
        self._news = asyncio.Condition()
        self._ended = False

    async def serve(self) -> None:
        """Run until the guest's console closes; cancel to stop early."""
        os.set_blocking(self._source, False)
        self._listener.setblocking(False)
        readers = asyncio.create_task(self._accept())
        try:
            await self._collect()
        finally:
            readers.cancel()
            os.close(self._source)
            with suppress(asyncio.CancelledError):
                await readers

    async def _collect(self) -> None:
        while output := await self._read():
            self.log.append(output)
            self._record(output)
            async with self._news:
                self._news.notify_all()
            # a UART speaks byte by byte: without a pause each would cost a turn of the loop
            await asyncio.sleep(PAUSE_SECONDS)
        self._ended = True
        self.complete.set()
        async with self._news:
            self._news.notify_all()

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._source, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self._source)
        return os.read(self._source, RING_SIZE)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                reader, _ = await loop.sock_accept(self._listener)
                if len(tasks) >= MAX_READERS:
                    reader.close()
                    continue
                task = asyncio.create_task(self._feed(reader))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            self._listener.close()
            if tasks:
                await asyncio.wait(tasks, timeout=END_SECONDS)
            for task in tasks:
                task.cancel()

    async def _feed(self, reader: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader.setblocking(False)
        position = 0
        with reader, suppress(OSError):
            while True:
                position, output = self.log.read(position, SEND_SIZE)
                if output:
                    await loop.sock_sendall(reader, output)
                elif self._ended:
                    return
                else:
                    async with self._news:
                        if position == self.log.end and not self._ended:
                            await self._news.wait()
