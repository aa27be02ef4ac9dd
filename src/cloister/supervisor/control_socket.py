"""The enclave's control socket: who asks is known by SO_PEERCRED, and decides what is answered.

The owner and root may do everything, others may only have the enclave described (nitro-tools 1.6).
"""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cloister.control import (
    DESCRIBE,
    MAX_REQUEST,
    NOT_PERMITTED,
    TERMINATE,
    ControlError,
    Reply,
    Request,
)

SOCKET_MODE: Final = 0o766  # as nitro-cli's: who may do what is decided per request
REQUEST_SECONDS: Final = 3.0
WATCH_SECONDS: Final = 1.0
MAX_CLIENTS: Final = 64
MAX_STRANGERS: Final = 32
"""Of them, how many may be other users: these cannot keep the owner from ending an enclave."""


class ControlSocket:
    """Serves describe at once; who asks for the end is answered after it, by `farewell`."""

    def __init__(self, path: Path, describe: Callable[[bool], Awaitable[dict[str, Any]]]) -> None:
        self._path = path
        self._describe = describe
        self._listener = _listen(path)
        self._mourners: list[socket.socket] = []
        self.terminate_requested = asyncio.Event()

    async def serve(self) -> None:
        """Accept clients until cancelled."""
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(MAX_CLIENTS)
        tasks: set[asyncio.Task[None]] = set()
        strangers: set[asyncio.Task[None]] = set()
        try:
            while True:
                await room.acquire()
                try:
                    client, _ = await loop.sock_accept(self._listener)
                except OSError:
                    room.release()
                    await asyncio.sleep(0.1)
                    continue
                stranger = not _may_do_all(client)
                if stranger and len(strangers) >= MAX_STRANGERS:
                    client.close()
                    room.release()
                    continue
                task = asyncio.create_task(self._answer(client))
                if stranger:
                    strangers.add(task)
                    task.add_done_callback(strangers.discard)
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                task.add_done_callback(lambda _: room.release())
        finally:
            for task in tasks:
                task.cancel()

    async def watch(self) -> None:
        """Return when the socket's file is gone: without it the enclave cannot be reached any more."""
        while self._path.exists():  # noqa: ASYNC110 -- a file's end raises no event of ours
            await asyncio.sleep(WATCH_SECONDS)

    def farewell(self, body: dict[str, Any]) -> None:
        """Tell everybody who asked for the end that it has come."""
        line = Reply(0, body).to_bytes()
        for client in self._mourners:
            with client, suppress(OSError):
                client.settimeout(1)
                client.sendall(line)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    async def _answer(self, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                request = Request.from_bytes(await _read_line(client))
                allowed = _may_do_all(client) or request.command == DESCRIBE
                if allowed and request.command == TERMINATE:
                    self._mourners.append(client)
                    self.terminate_requested.set()
                    return
                reply = (
                    Reply(0, await self._describe(request.metadata)) if allowed else Reply(NOT_PERMITTED, {})
                )
                await asyncio.get_running_loop().sock_sendall(client, reply.to_bytes())
        except (ControlError, OSError, TimeoutError):
            pass
        except asyncio.CancelledError:
            client.close()
            raise
        client.close()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    handle = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:  # a socket's path has at most 107 bytes (unix(7))
        short = f"/proc/self/fd/{handle}/{path.name}"
        listener.bind(short)
        os.chmod(short, SOCKET_MODE)  # noqa: PTH101 -- by descriptor; open to be asked, see the module
        listener.listen(MAX_CLIENTS)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(handle)
    return listener


def _may_do_all(client: socket.socket) -> bool:
    """Say whether a client is the owner or root."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.geteuid())


async def _read_line(client: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n"):
        chunk = await loop.sock_recv(client, MAX_REQUEST - len(line))
        if not chunk:
            raise ControlError("A control request was not finished.")
        line += chunk
    return line
