"""The proxy itself: from a vsock port of the parent to one TCP destination.

AWS's pool of workers, in which the fifth connection waits for the first to end, is not copied: every
connection is served at once, bounded by the descriptors this process may have. Half-closes pass through.
"""

import asyncio
import logging
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any

from cloister.proxy.allowlist import Destination
from cloister.transport import listen, listener_path

CONNECT_SECONDS = 30.0
CHUNK = 64 << 10  # bytes read at once; also where a slow receiver makes its sender wait
FILES_PER_CONNECTION = 2
SPARE_FILES = 32
HAPPY_EYEBALLS_SECONDS = 0.25  # RFC 8305 section 5

log = logging.getLogger("vsock_proxy")


class Proxy:
    """Serves one destination on one port until ``close``; raises TransportError when it cannot listen."""

    def __init__(self, local_port: int, destination: Destination, *, family: socket.AddressFamily) -> None:
        self._destination = destination
        self._family = family
        self._listener = listen(local_port)
        self._listener.setblocking(False)
        self._path = listener_path(local_port)
        self._connections: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_connection_budget())

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def serve(self) -> None:
        """Accept until cancelled; nothing a client or the destination does ends this loop."""
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            try:
                client, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                self._places.release()
                log.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(0.1)
                continue
            task = loop.create_task(self._serve_client(client))
            self._connections.add(task)
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop listening, remove the socket and end every connection."""
        if self._path.is_socket():
            self._path.unlink()
        self._listener.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self._places.release()

    async def _serve_client(self, client: socket.socket) -> None:
        try:
            server = await self._connect()
        except (OSError, UnicodeError) as error:
            reason = str(error) or "no answer in time"
            log.warning("cannot connect to %s:%d: %s", self._destination.host, self._destination.port, reason)
            client.close()
            return
        except BaseException:
            client.close()
            raise
        with client, server:
            await splice(client, server)

    async def _connect(self) -> socket.socket:
        """Connect, resolving anew: an address that moved is found, a failure costs one connection only."""
        destination = self._destination
        async with asyncio.timeout(CONNECT_SECONDS):
            return await connect(
                destination.pinned or destination.host, destination.port, family=self._family
            )


async def connect(host: str, port: int, *, family: socket.AddressFamily) -> socket.socket:
    """Connect to the first address of a name that answers (RFC 8305, Happy Eyeballs); raises OSError."""
    rows = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    attempts: set[asyncio.Task[socket.socket]] = set()
    failure: OSError = ConnectionRefusedError(f"no address of {host} answers")
    try:
        for kind, _, _, _, address in _interleaved(rows):
            attempts.add(asyncio.create_task(_attempt(kind, address)))
            done, attempts = await asyncio.wait(
                attempts, timeout=HAPPY_EYEBALLS_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            winner, failure = _first(done, failure)
            if winner is not None:
                return winner
        while attempts:
            done, attempts = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
            winner, failure = _first(done, failure)
            if winner is not None:
                return winner
        raise failure
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_drop)
            attempt.cancel()


Row = tuple[int, int, int, str, tuple[Any, ...]]


def _interleaved(rows: Sequence[Row]) -> list[Row]:
    """Alternate between the families, the resolver's first choice first (RFC 8305 section 4)."""
    first = [row for row in rows if row[0] == rows[0][0]]
    other = [row for row in rows if row[0] != rows[0][0]]
    pairs = zip_longest(first, other)
    return [row for pair in pairs for row in pair if row is not None]


async def _attempt(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _first(done: set[asyncio.Task[socket.socket]], failure: OSError) -> tuple[socket.socket | None, OSError]:
    """Return the first connected socket, closing any other, or else the latest failure."""
    winner: socket.socket | None = None
    for task in done:
        error = task.exception()
        if isinstance(error, OSError):
            failure = error
        elif winner is None:
            winner = task.result()
        else:
            task.result().close()
    return winner, failure


def _drop(attempt: asyncio.Task[socket.socket]) -> None:
    """Close a connection that came too late."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def splice(left: socket.socket, right: socket.socket) -> None:
    """Copy both ways until both are done; an end of one direction is passed on, an error ends both."""
    for sock in (left, right):
        sock.setblocking(False)
    copies = [asyncio.create_task(_copy(left, right)), asyncio.create_task(_copy(right, left))]
    try:
        await asyncio.gather(*copies)
    except OSError as error:
        log.debug("connection ended: %s", error)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(CHUNK))
    while count := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, buffer[:count])
    with suppress(OSError):  # it may be gone already
        sink.shutdown(socket.SHUT_WR)


def _connection_budget() -> int:
    """Return how many connections this process may have, after raising its limit as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    files = 1 << 20 if soft == resource.RLIM_INFINITY else soft
    return max(1, (files - SPARE_FILES) // FILES_PER_CONNECTION)
