"""One HTTP/1.1 request over a stream that is already open (RFC 9112), as small as an enclave wants it.

Written here because ``http.client`` pulls in ``email`` and forty more modules, which costs a second of
start-up in an emulated guest. Only what a KMS endpoint sends is understood: a status line, headers, and a
body with Content-Length.
"""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cloister.errors import CloisterError
from cloister.sdk.streams import receive_exactly, receive_some, send_bytes

MAX_HEAD = 16 << 10
MAX_BODY = 1 << 20


class HttpError(CloisterError):
    """The answer is not HTTP as this client understands it."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer: status code, headers by lower-case name, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def post(
    stream: socket.socket, *, path: str, headers: Mapping[str, str], body: bytes, timeout: float
) -> HttpResponse:
    """POST ``body`` and return the answer, within ``timeout`` seconds; HttpError or StreamError otherwise."""
    deadline = time.monotonic() + timeout
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise HttpError("a request header holds a line break")
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    send_bytes(stream, "\r\n".join(lines).encode("latin-1") + body, timeout=timeout)
    head, rest = _receive_head(stream, deadline)
    status, received = _parse_head(head)
    length = _content_length(received)
    if len(rest) > length:
        raise HttpError(f"the answer is longer than its Content-Length of {length} bytes")
    return HttpResponse(
        status, received, rest + receive_exactly(stream, length - len(rest), deadline=deadline)
    )


def _receive_head(stream: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        if len(received) > MAX_HEAD:
            raise HttpError(f"the answer's head is longer than {MAX_HEAD} bytes")
        chunk = receive_some(stream, 4096, deadline=deadline)
        if not chunk:
            raise HttpError(
                f"the server closed the connection after {len(received)} bytes of its answer's head"
            )
        received += chunk
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    status_line, *header_lines = head.decode("latin-1").split("\r\n")
    version, _, after = status_line.partition(" ")
    code = after[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or len(code) != 3 or not (code.isascii() and code.isdigit()):
        raise HttpError(f"the answer starts with {status_line[:60]!r}, an HTTP/1.1 status line was expected")
    headers: dict[str, str] = {}
    for line in header_lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise HttpError(f"the answer holds the malformed header line {line[:60]!r}")
        if name.lower() in headers and name.lower() in ("content-length", "transfer-encoding"):
            raise HttpError(f"the answer repeats the header {name}")
        headers[name.lower()] = value.strip(" \t")
    return int(code), headers


def _content_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise HttpError(
            f"the answer uses Transfer-Encoding {headers['transfer-encoding']!r}, none was expected"
        )
    text = headers.get("content-length", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise HttpError(f"the answer's Content-Length is {text!r}, a number of bytes was expected")
    if int(text) > MAX_BODY:
        raise HttpError(f"the answer's body of {text} bytes is longer than {MAX_BODY}")
    return int(text)
