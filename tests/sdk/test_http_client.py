"""The HTTP client against servers that answer whatever they like: real sockets, no server library."""

import socket
import threading
from contextlib import suppress

import pytest

from cloister.sdk import HttpError, StreamError
from cloister.sdk.http_client import HttpResponse, post

OK = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\nContent-Length: 2\r\n\r\n{}"


def ask(
    answer: bytes, *, piece: int = 1 << 16, headers: dict[str, str] | None = None
) -> tuple[HttpResponse, bytes]:
    """Post to a server that reads one request, sends ``answer`` and closes; return what both saw."""
    ours, theirs = socket.socketpair()
    seen = b""

    def serve() -> None:
        nonlocal seen
        with theirs, suppress(BrokenPipeError, ConnectionResetError):
            while not seen.endswith(b"BODY"):
                seen += theirs.recv(65536)
            for start in range(0, len(answer), piece):
                theirs.sendall(answer[start : start + piece])

    server = threading.Thread(target=serve)
    server.start()
    try:
        with ours:
            response = post(ours, path="/", headers=headers or {"host": "kms"}, body=b"BODY", timeout=5)
    finally:
        server.join(5)
    return response, seen


def test_request_is_plain_http_1_1() -> None:
    """The request line, the given headers, a length and nothing surprising go out."""
    _, seen = ask(OK, headers={"host": "kms:1", "x-amz-target": "T"})
    assert seen == (
        b"POST / HTTP/1.1\r\nhost: kms:1\r\nx-amz-target: T\r\n"
        b"Content-Length: 4\r\nConnection: close\r\n\r\nBODY"
    )


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_answer_is_read_however_it_is_cut(piece: int) -> None:
    """Status, headers by lower-case name and body arrive whole from any pieces."""
    response, _ = ask(OK, piece=piece)
    assert response == HttpResponse(200, {"content-type": "x", "content-length": "2"}, b"{}")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "closed the connection after 0 bytes"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "status line was expected"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "status line was expected"),
        (b"HTTP/2 200\r\n\r\n", "status line was expected"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "Content-Length is ''"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length is '-1'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", "longer than 1048576"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "repeats the header"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            "Transfer-Encoding 'chunked'",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}", "longer than its Content-Length"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", "malformed header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}", "malformed header"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000, "head is longer"),
    ],
)
def test_answer_that_is_not_understood_is_refused(answer: bytes, complaint: str) -> None:
    """What a KMS endpoint never sends is refused with one sentence, before it is believed."""
    with pytest.raises(HttpError, match=complaint):
        ask(answer)


def test_body_that_ends_early_is_refused() -> None:
    """Half a body is no answer."""
    with pytest.raises(StreamError, match="closed the stream"):
        ask(OK[:-1])


def test_header_cannot_smuggle_a_line() -> None:
    """A header value with a line break never reaches the wire."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(HttpError, match="line break"):
        post(ours, path="/", headers={"host": "a\r\nx: y"}, body=b"", timeout=1)


def test_silent_server_is_given_up() -> None:
    """A server that accepts and says nothing costs the time limit and no more."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(StreamError, match="time limit"):
        post(ours, path="/", headers={"host": "a"}, body=b"", timeout=0.2)
