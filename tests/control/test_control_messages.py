"""The control socket's messages."""

import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.control import ControlError, Reply, Request, receive_line


@pytest.mark.parametrize("request_", [Request("describe", metadata=True), Request("terminate")])
def test_request_survives_the_wire(request_: Request) -> None:
    """A request reads back as it was written, in one line."""
    line = request_.to_bytes()
    assert line.count(b"\n") == 1
    assert Request.from_bytes(line) == request_


def test_reply_survives_the_wire() -> None:
    """A reply reads back as it was written, newlines in its text included."""
    reply = Reply(13, {"Text": "two\nlines", "List": [1, 2]})
    assert Reply.from_bytes(reply.to_bytes()) == reply


@given(st.binary(max_size=200))
def test_noise_is_refused_in_words(noise: bytes) -> None:
    """Whatever the bytes are, reading them ends in a message or a ControlError."""
    for kind in (Request, Reply):
        with pytest.raises(ControlError):
            kind.from_bytes(noise)


@pytest.mark.parametrize(
    "line", [b'{"command":"run"}', b'{"command":"describe","metadata":1}', b"[]", b"[" * 5000]
)
def test_unknown_requests_are_refused(line: bytes) -> None:
    """A request that is no request is refused."""
    with pytest.raises(ControlError):
        Request.from_bytes(line)


def test_lines_are_bounded_in_length_and_time() -> None:
    """A peer that sends too much, too slowly, or leaves, is not waited for."""
    for sent, close, says in (
        (b"x" * 11, False, "longer than 10"),
        (b"x", False, "in time"),
        (b"x", True, "closed"),
    ):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(sent)
            if close:
                theirs.close()
            with pytest.raises(ControlError, match=says):
                receive_line(ours, limit=10, deadline=time.monotonic() + 0.05)
