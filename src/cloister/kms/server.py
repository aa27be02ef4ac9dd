"""The HTTP server in front of the service: uvicorn with httptools, every size and wait bounded.

Plain HTTP, on a loopback address or a Unix socket; the kernel's word tells where a caller sits.
"""

import asyncio
import ipaddress
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cloister.aws import CONTENT_TYPE, Fault, Request, encode_fault
from cloister.errors import CloisterError
from cloister.kms.service import Response, Service

MAX_BODY = 1 << 19  # AttestationDocument may have 262144 bytes, which base64 makes 349528
MAX_HEADERS = 32768
MAX_HEADER_COUNT = 64
MAX_CONNECTIONS = 512
BACKLOG = 128
REQUEST_TIMEOUT = 20.0
KEEP_ALIVE = 75
GRACE = 10


class BindError(CloisterError):
    """The address cannot be listened on, or should not be."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with what it lacks: limits on headers, and a deadline for each request's arrival."""

    _header_bytes = 0
    _header_count = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the first request's clock."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Count a new request's headers, against a new deadline."""
        self._header_bytes = self._header_count = 0
        self._start_clock()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the target."""
        self._count(len(url), 0)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value), 1)
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        """Stop the clock: the request is here."""
        self._stop_clock()
        super().on_message_complete()

    def _count(self, octets: int, headers: int) -> None:
        self._header_bytes += octets
        self._header_count += headers
        if self._header_bytes > MAX_HEADERS or self._header_count > MAX_HEADER_COUNT:
            raise ValueError("the request's head is too large")  # httptools turns it into a parser error: 400

    def _start_clock(self) -> None:
        self._stop_clock()
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT, self._expire)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


class Application:
    """The ASGI application: one route, bodies bounded."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            return
        try:
            body = await _gather(receive)
        except ConnectionResetError:
            return
        if body is None:
            text = f"The request body is larger than {MAX_BODY} bytes."
            fault = encode_fault(Fault("RequestEntityTooLargeException", text))
            response = Response(413, (("content-type", CONTENT_TYPE), ("connection", "close")), fault)
        else:
            client = scope.get("client")
            response = self._service.respond(
                _request(scope, body),
                source_ip=client[0] if client else None,
                secure=scope["scheme"] == "https",
            )
        headers = [(name.encode(), value.encode()) for name, value in response.headers]
        headers.append((b"content-length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})


async def _gather(receive: Any) -> bytes | None:
    """Return a body, None when there is too much of it; raises ConnectionResetError when it breaks off."""
    pieces, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        piece = message.get("body", b"")
        size += len(piece)
        if size > MAX_BODY:
            return None
        pieces.append(piece)
        more = message.get("more_body", False)
    return b"".join(pieces)


def _request(scope: Any, body: bytes) -> Request:
    return Request(
        method=scope["method"],
        path=_text(scope["raw_path"]),
        query=_text(scope["query_string"]),
        headers=tuple((_text(name), _text(value)) for name, value in scope["headers"]),
        body=body,
    )


def _text(octets: bytes) -> str:
    """Decode what went over the wire; clients sign UTF-8, the rest is taken byte by byte."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def listen_tcp(host: str, port: int, *, allow_exposed: bool = False) -> socket.socket:
    """Listen on TCP; raises BindError, also for an address others can reach unless that is allowed."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise BindError(f"'{host}' is not an IP address") from error
    if not address.is_loopback and not allow_exposed:
        raise BindError(
            f"{host} is not a loopback address: over plain HTTP plaintexts would cross the network in the "
            "clear (--insecure-expose listens there all the same)"
        )
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # Named in full: asyncio turns Nagle off only where it sees IPPROTO_TCP, and 40 ms an answer hang on that.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), port))
        listener.listen(BACKLOG)  # with SO_REUSEADDR a taken port is noticed here, not above
    except OSError as error:
        listener.close()
        raise BindError(f"cannot listen on {host} port {port} ({error.strerror})") from error
    return listener


def listen_unix(path: Path) -> socket.socket:
    """Listen on a Unix socket, 0600; one that nobody serves any more is replaced; raises BindError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_served(path):
            path.unlink()
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
            listener.listen(BACKLOG)
        finally:
            os.umask(before)
    except OSError as error:
        listener.close()
        raise BindError(f"cannot listen on {path} ({error.strerror or error})") from error
    return listener


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True


class _Server(uvicorn.Server):
    """uvicorn's server, which announces itself and ends with exit code 0 on SIGTERM and SIGINT."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Announce readiness once every socket is served."""
        await super().startup(sockets)
        if self.started:
            self._announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals through the loop; uvicorn would raise them anew after its clean-up."""
        loop = asyncio.get_running_loop()
        captured = (signal.SIGTERM, signal.SIGINT)
        for number in captured:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in captured:
                loop.remove_signal_handler(number)


def serve(service: Service, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``announce`` is called once requests can come."""
    server = _Server(_configuration(service), announce)
    asyncio.run(server.serve(sockets=[listener]))


def _configuration(service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        Application(service),
        http=BoundedProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
