"""Messages over a byte stream: a four-byte big-endian length, then that many bytes of UTF-8 JSON.

The other end of a vsock stream may be hostile or merely slow, so the length is bounded before anything is
allocated and the time limit covers the whole message, not each read (security-checklist 5.2).
"""

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from cloister.errors import CloisterError

MAX_MESSAGE = 1 << 20
"""The largest message in bytes, unless the caller says less (security-checklist 5.2: 1 MiB)."""
DEFAULT_TIMEOUT = 30.0
"""Seconds a whole message may take."""
PARENT_CID = 3
"""The parent's address as the enclave sees it (DESIGN.md 3)."""

_LENGTH = struct.Struct(">I")


class StreamError(CloisterError):
    """The stream ended early, took too long, or carried something that is no message."""


def send_message(
    stream: socket.socket, message: Mapping[str, object], *, timeout: float = DEFAULT_TIMEOUT
) -> None:
    """Send one message within ``timeout`` seconds; StreamError when the peer does not take it."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_MESSAGE:
        raise StreamError(f"a message of {len(body)} bytes is longer than the limit of {MAX_MESSAGE}")
    send_bytes(stream, _LENGTH.pack(len(body)) + body, timeout=timeout)


def receive_message(
    stream: socket.socket, *, timeout: float = DEFAULT_TIMEOUT, limit: int = MAX_MESSAGE
) -> dict[str, object]:
    """Return the next message, a JSON object of at most ``limit`` bytes, within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    (length,) = _LENGTH.unpack(receive_exactly(stream, _LENGTH.size, deadline=deadline))
    if length > limit:
        raise StreamError(f"the peer announced a message of {length} bytes, at most {limit} are accepted")
    body = receive_exactly(stream, length, deadline=deadline)
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise StreamError(f"the peer's message of {length} bytes is not JSON") from error
    if not isinstance(message, dict):
        raise StreamError(f"the peer's message is a JSON {type(message).__name__}, an object was expected")
    return message


def send_bytes(stream: socket.socket, chunk: bytes, *, timeout: float) -> None:
    """Send all of ``chunk`` within ``timeout`` seconds in all."""
    try:
        stream.settimeout(timeout)
        stream.sendall(chunk)
    except TimeoutError as error:
        raise StreamError(f"the peer did not take {len(chunk)} bytes within {timeout:g} s") from error
    except OSError as error:
        raise StreamError(f"the stream broke while sending: {error.strerror}") from error


def receive_exactly(stream: socket.socket, length: int, *, deadline: float) -> bytes:
    """Return exactly ``length`` bytes, which the caller has bounded; ``deadline`` is in monotonic seconds."""
    received = bytearray()
    while len(received) < length:
        chunk = receive_some(stream, min(length - len(received), 1 << 16), deadline=deadline)
        if not chunk:
            raise StreamError(f"the peer closed the stream after {len(received)} of {length} bytes")
        received += chunk
    return bytes(received)


def receive_some(stream: socket.socket, limit: int, *, deadline: float) -> bytes:
    """Return what has arrived, at most ``limit`` bytes, or nothing at the end of the stream."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise StreamError("the peer took longer than the time limit")
    try:
        stream.settimeout(remaining)
        return stream.recv(limit)
    except TimeoutError as error:
        raise StreamError("the peer took longer than the time limit") from error
    except OSError as error:
        raise StreamError(f"the stream broke while receiving: {error.strerror}") from error


def accept_parent(listener: socket.socket) -> socket.socket:
    """Return the next connection that comes from the parent; anybody else's is closed unheard (HL-24)."""
    while True:
        stream, address = listener.accept()
        if comes_from_parent(stream, address):
            return stream
        stream.close()


def comes_from_parent(stream: socket.socket, address: Any) -> bool:
    """Whether an accepted connection is the parent's; one that is not vsock's is a test's or a tool's own."""
    return stream.family != getattr(socket, "AF_VSOCK", None) or address[0] == PARENT_CID
