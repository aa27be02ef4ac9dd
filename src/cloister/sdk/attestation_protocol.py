"""How a document is asked for over a stream: a nonce goes in, a document comes back (docs/reference).

Request: version 1, the nonce's length (16 to 64), the nonce. Answer: 0 and a document, or 1 and a text that
says why there is none, each after its length as two bytes, big-endian. One request a connection. The caller
gives nothing but the nonce: what else a document states is the enclave's to say.
"""

import socket
import struct
import time
from typing import Final

from cloister.errors import CloisterError
from cloister.nsm import MAX_RESPONSE
from cloister.sdk.streams import StreamError, receive_exactly, send_bytes
from cloister.transport import RefusedError, open_stream

ATTESTATION_PORT: Final = 3300
"""Where an enclave answers, unless told otherwise: a hundred times the virtio id of its security module."""
NONCE_SIZES: Final = range(16, 65)
"""Below 16 bytes chance repeats one; 64 hold any digest."""
ANSWER_SECONDS: Final = 30.0
MAX_REFUSAL: Final = 512
_VERSION: Final = 1
_DOCUMENT, _REFUSAL = 0, 1
_HEAD = struct.Struct(">BH")
_RETRY_SECONDS: Final = 0.05


class AttestationRequestError(CloisterError):
    """The request or the answer is not what the protocol says, or the enclave says why it has no document."""


def request_attestation(stream: socket.socket, nonce: bytes, *, timeout: float = ANSWER_SECONDS) -> bytes:
    """Ask the enclave at the other end for a document with this nonce, and return it unverified.

    Raises AttestationRequestError or StreamError; ``timeout`` (seconds) is for all of it.
    """
    deadline = time.monotonic() + timeout
    send_bytes(stream, bytes([_VERSION, len(_checked(nonce))]) + nonce, timeout=timeout)
    status, length = _HEAD.unpack(receive_exactly(stream, _HEAD.size, deadline=deadline))
    limit = {_DOCUMENT: MAX_RESPONSE, _REFUSAL: MAX_REFUSAL}.get(status)
    if limit is None:
        raise AttestationRequestError(
            f"the enclave's answer begins with {status}, and 0 (a document) or 1 (a refusal) was expected"
        )
    if not 1 <= length <= limit:
        raise AttestationRequestError(f"the enclave announces {length} bytes, and 1 to {limit} were expected")
    body = receive_exactly(stream, length, deadline=deadline)
    if status == _REFUSAL:
        raise AttestationRequestError(f"the enclave gives no document: {_printable(body)}")
    return body


def ask_enclave(
    cid: int,
    nonce: bytes,
    *,
    port: int = ATTESTATION_PORT,
    patience: float = 0.0,
    timeout: float = ANSWER_SECONDS,
) -> bytes:
    """Connect to an enclave from its parent and return its unverified document.

    ``patience`` (seconds) is for a program that still starts: run-enclave returns a moment before it listens.
    Raises AttestationRequestError, StreamError, or what ``open_stream`` raises.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            stream = open_stream(cid, port)
            break
        except RefusedError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)
    with stream:
        return request_attestation(stream, nonce, timeout=timeout)


def receive_nonce(stream: socket.socket, *, deadline: float) -> bytes:
    """Return the nonce of a request (the enclave's side); raise AttestationRequestError or StreamError."""
    version, size = receive_exactly(stream, 2, deadline=deadline)
    if version != _VERSION:
        raise AttestationRequestError(f"version {version} of the protocol is not known here, {_VERSION} is")
    if size not in NONCE_SIZES:
        raise AttestationRequestError(_nonce_text(size))
    return receive_exactly(stream, size, deadline=deadline)


def send_document(stream: socket.socket, document: bytes, *, deadline: float) -> None:
    """Answer with a document; raise StreamError."""
    _send(stream, _DOCUMENT, document, deadline)


def send_refusal(stream: socket.socket, why: str, *, deadline: float) -> None:
    """Answer that there is no document, and why; raise StreamError."""
    _send(stream, _REFUSAL, why.encode("ascii", "replace")[:MAX_REFUSAL], deadline)


def _send(stream: socket.socket, status: int, body: bytes, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise StreamError("the peer took longer than the time limit")
    send_bytes(stream, _HEAD.pack(status, len(body)) + body, timeout=left)


def _checked(nonce: bytes) -> bytes:
    if len(nonce) not in NONCE_SIZES:
        raise AttestationRequestError(_nonce_text(len(nonce)))
    return nonce


def _nonce_text(size: int) -> str:
    return f"a nonce has {NONCE_SIZES[0]} to {NONCE_SIZES[-1]} bytes, not {size}"


def _printable(text: bytes) -> str:
    """Keep an enclave's text from driving the caller's terminal."""
    return "".join(char if char.isprintable() else "?" for char in text.decode("ascii", "replace"))
