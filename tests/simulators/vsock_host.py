"""A running vsock device: a model guest at one end, host programs played by the test at the other."""

import asyncio
import socket
from contextlib import suppress
from typing import Self

from cloister.devices import VsockDevice
from cloister.vhost import serve_device
from simulators.vhost_front_end import FrontEnd, until
from simulators.vsock_guest import VsockGuest

OPEN_PORT = 5000


class VsockHost:
    """Dials answer on ``OPEN_PORT`` only; the host's end of each connection is in ``dialled``."""

    def __init__(self, *, features: int = 0, buffers: int = 64, max_connections: int = 1280) -> None:
        self.front = FrontEnd((8, 8), memory_size=1 << 20, buffer_size=16384)
        self.dialled: list[socket.socket] = []
        self.device = VsockDevice(guest_cid=16, dial=self.dial, max_connections=max_connections)
        self.guest = VsockGuest(self.front, listening=[7000])
        self._features = features
        self._buffers = buffers
        self.task: asyncio.Task[None]

    def dial(self, cid: int, port: int) -> socket.socket:
        """Refuse everything but (3, OPEN_PORT)."""
        if (cid, port) != (3, OPEN_PORT):
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        ours.setblocking(False)
        self.dialled.append(ours)
        return theirs

    async def attach(self, port: int) -> socket.socket:
        """Connect into the guest; returns the host program's end."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.device.attach(theirs, port)
        return ours

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(serve_device(self.front.back_end, self.device))
        self.front.set_up(self._features)
        self.guest.offer_buffers(self._buffers)
        await until(lambda: self.device.receive_queue is not None)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self.task
        self.device.close()
        for sock in self.dialled:
            sock.close()
        self.front.close()

    async def settle(self, rounds: int = 3) -> None:
        """Let device and guest talk until both have nothing to say for some rounds."""
        quiet = 0
        for _ in range(20000):
            if quiet == rounds:
                return
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            quiet = 0 if self.guest.poll() else quiet + 1
        raise AssertionError("device and guest never come to rest")


def receive_all(sock: socket.socket) -> bytes | None:
    """Return what is there to read, None at the end."""
    collected = b""
    with suppress(BlockingIOError):
        while piece := sock.recv(1 << 16):
            collected += piece
        return collected or None
    return collected
