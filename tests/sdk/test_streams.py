"""Messages over a stream whose other end may be slow, silent or hostile."""

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.sdk import StreamError, receive_message, send_message

Pair = tuple[socket.socket, socket.socket]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Yield the two ends of a stream."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@given(message=st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_sent_arrives(message: dict[str, object]) -> None:
    """Receiving is the inverse of sending, for every JSON object."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_message(ours, message)
        assert receive_message(theirs) == message


def test_message_in_small_pieces_is_put_together(pair: Pair) -> None:
    """A message that arrives byte by byte is one message."""
    ours, theirs = pair
    body = json.dumps({"a": "b" * 100}).encode()

    def trickle() -> None:
        for byte in struct.pack(">I", len(body)) + body:
            ours.send(bytes([byte]))

    sender = threading.Thread(target=trickle)
    sender.start()
    assert receive_message(theirs) == {"a": "b" * 100}
    sender.join()


def test_announced_length_is_bounded_before_anything_is_read(pair: Pair) -> None:
    """A length of four gigabytes is refused at once, although nothing follows it."""
    ours, theirs = pair
    ours.send(b"\xff\xff\xff\xff")
    with pytest.raises(StreamError, match="announced a message of 4294967295 bytes, at most 1000"):
        receive_message(theirs, limit=1000)


def test_message_too_long_to_send_is_refused(pair: Pair) -> None:
    """The sender keeps the limit it expects of others."""
    with pytest.raises(StreamError, match="longer than the limit"):
        send_message(pair[0], {"a": "x" * (1 << 20)})


def test_time_limit_covers_the_whole_message(pair: Pair) -> None:
    """A peer that keeps sending a byte now and then does not get more time for it."""
    ours, theirs = pair
    stop = threading.Event()

    def drip() -> None:
        ours.send(struct.pack(">I", 1000))
        while not stop.wait(0.05):
            ours.send(b" ")

    sender = threading.Thread(target=drip)
    sender.start()
    started = time.monotonic()
    with pytest.raises(StreamError, match="time limit"):
        receive_message(theirs, timeout=0.3)
    assert time.monotonic() - started < 2
    stop.set()
    sender.join()


def test_peer_that_does_not_read_is_given_up(pair: Pair) -> None:
    """Sending to a peer that never reads ends with the time limit."""
    ours, _ = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with pytest.raises(StreamError, match="did not take"):
        send_message(ours, {"a": "x" * 900_000}, timeout=0.2)


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b'{"a":', b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(pair: Pair, body: bytes) -> None:
    """Anything but a JSON object is one sentence, not a traceback."""
    ours, theirs = pair
    ours.sendall(struct.pack(">I", len(body)) + body)
    with pytest.raises(StreamError, match="the peer's message"):
        receive_message(theirs)


def test_stream_that_ends_early_says_so(pair: Pair) -> None:
    """A peer that closes in the middle of a message is told apart from one that is slow."""
    ours, theirs = pair
    ours.send(struct.pack(">I", 10) + b"{}")
    ours.close()
    with pytest.raises(StreamError, match="closed the stream after 2 of 10 bytes"):
        receive_message(theirs)
