"""The way from host programs into an enclave: one listening socket, one line, then the stream itself.

The grammar is that of ``cloister.vsock``'s addresses; the line is bounded and time-limited.
"""

import asyncio
import socket
from collections.abc import Callable

from cloister.vsock import MAX_LINE, AddressError, parse_connect

LINE_SECONDS = 5.0
MAX_WAITING = 128  # clients that have not said where they want to go


async def serve_mux(listener: socket.socket, attach: Callable[[socket.socket, int], None]) -> None:
    """Accept clients for ever and hand each to ``attach(sock, port)``, which takes it over; cancel to stop.

    Takes the listener over. A client that does not say ``CONNECT <port>`` in time is cut off.
    """
    loop = asyncio.get_running_loop()
    waiting = asyncio.Semaphore(MAX_WAITING)
    tasks: set[asyncio.Task[None]] = set()
    listener.setblocking(False)
    try:
        while True:
            await waiting.acquire()
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # out of descriptors, most likely: some will be free soon
                waiting.release()
                await asyncio.sleep(0.1)
                continue
            task = loop.create_task(_serve_client(client, attach))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda _: waiting.release())
    finally:
        for task in tasks:
            task.cancel()
        listener.close()


async def _serve_client(client: socket.socket, attach: Callable[[socket.socket, int], None]) -> None:
    client.setblocking(False)
    try:
        async with asyncio.timeout(LINE_SECONDS):
            port = parse_connect(await _read_line(client))
    except (AddressError, OSError, TimeoutError):
        client.close()
    except BaseException:
        client.close()
        raise
    else:
        attach(client, port)


async def _read_line(client: socket.socket) -> bytes:
    """Read a line and not a byte more: what follows belongs to the enclave."""
    line = b""
    while not line.endswith(b"\n"):
        if len(line) >= MAX_LINE:
            raise AddressError(f"a line of more than {MAX_LINE} bytes")
        try:
            seen = client.recv(MAX_LINE - len(line), socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(client)
            continue
        if not seen:
            raise AddressError("the client closed before it said where to go")
        line += client.recv(seen.index(b"\n") + 1 if b"\n" in seen else len(seen))
    return line


async def _readable(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(client, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(client)
