"""What the hypervisor answers on the guest's vsock: the heartbeat, and the init's report of the program.

Heartbeat: CID 3 port 9000, one byte 0xB7 echoed (nitro-tools section 4). Report, ours alone: CID 3 port 9001,
"EXIT" and the wait status, or "FAIL" and why the program was not started. Both are answered inside the
enclave's own supervisor, so that enclaves never meet on a port; a second one, or anything else, is ignored.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final

PARENT_CID: Final = 3
HEARTBEAT_PORT: Final = 9000
STATUS_PORT: Final = 9001
HEARTBEAT: Final = b"\xb7"
STATUS_MAGIC: Final = b"EXIT"
FAILURE_MAGIC: Final = b"FAIL"
MAX_FAILURE: Final = 512
"""Bytes of UTF-8 text after the magic number; the end of the stream ends it."""
TALK_SECONDS: Final = 10.0


class GuestServices:
    """Answers the two ports; everything else goes to ``dial``."""

    def __init__(self, dial: Callable[[int, int], socket.socket]) -> None:
        self._dial = dial
        self._tasks: set[asyncio.Task[None]] = set()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the guest's init has sent its heartbeat."""
        self.wait_status: int | None = None
        """The program's, as waitpid gives it, once the init has said so."""
        self.init_failure: str | None = None
        """Why the program was not started, once the init has said so."""

    def dial(self, cid: int, port: int) -> socket.socket:
        """Connect the guest to a port; raises ConnectionRefusedError."""
        if cid != PARENT_CID or port not in (HEARTBEAT_PORT, STATUS_PORT):
            return self._dial(cid, port)
        reported = self.wait_status is not None or self.init_failure is not None
        over = self.ready.done() if port == HEARTBEAT_PORT else reported
        if over or len(self._tasks) >= 4:
            raise ConnectionRefusedError(f"port {port} has been used")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        talk = self._heartbeat if port == HEARTBEAT_PORT else self._status
        task = asyncio.get_running_loop().create_task(self._limit(talk, ours))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return theirs

    def close(self) -> None:
        """Stop talking."""
        for task in self._tasks:
            task.cancel()
        if not self.ready.done():
            self.ready.cancel()

    async def drain(self) -> None:
        """Let talks that are under way finish, for at most a quarter of a second."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=0.25)

    async def _limit(
        self, talk: Callable[[socket.socket], Coroutine[None, None, None]], sock: socket.socket
    ) -> None:
        with sock, suppress(OSError, TimeoutError):
            await asyncio.wait_for(talk(sock), TALK_SECONDS)

    async def _heartbeat(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if await loop.sock_recv(sock, 1) == HEARTBEAT:
            await loop.sock_sendall(sock, HEARTBEAT)
            if not self.ready.done():
                self.ready.set_result(None)

    async def _status(self, sock: socket.socket) -> None:
        magic = await _read(sock, 4)
        if magic == STATUS_MAGIC:
            status = await _read(sock, 4)
            if len(status) == 4:
                (self.wait_status,) = struct.unpack("<I", status)
        elif magic == FAILURE_MAGIC:
            await self._failure(sock)

    async def _failure(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        text = b""
        while len(text) < MAX_FAILURE and (chunk := await loop.sock_recv(sock, MAX_FAILURE - len(text))):
            text += chunk
            self.init_failure = text.decode(
                errors="replace"
            )  # the machine may be gone before the stream's end


async def _read(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes, or fewer where the stream ends."""
    loop = asyncio.get_running_loop()
    message = b""
    while len(message) < size and (chunk := await loop.sock_recv(sock, size - len(message))):
        message += chunk
    return message
