"""The attestation protocol from both sides, each against peers that are silent, slow or hostile."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloister.nsm import ErrorCode
from cloister.sdk import (
    AttestationRequestError,
    Binding,
    NsmError,
    StreamError,
    request_attestation,
    serve_attestation,
)
from cloister.sdk import streams as sdk_streams

NONCE = bytes(range(32))
Pair = tuple[socket.socket, socket.socket]


def sign(*, nonce: bytes | None, user_data: bytes | None, public_key: bytes | None) -> bytes:
    """Return what was asked for in place of a document: nothing here verifies one."""
    return repr((nonce, user_data, public_key)).encode()


@contextmanager
def enclave(
    path: Path,
    bind: Callable[[], Binding] = Binding,
    attest: Callable[..., bytes] = sign,
    seconds: float = 20,
) -> Iterator[Callable[[], socket.socket]]:
    """Run the service on a socket of this host; yield what connects to it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path / "port"))
    listener.listen(8)
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        stream = socket.socket(socket.AF_UNIX)
        opened.append(stream)
        stream.connect(str(path / "port"))
        return stream

    with serve_attestation(bind, listener=listener, attest=attest, seconds=seconds):
        yield connect
        for stream in opened:
            stream.close()


def test_a_document_carries_the_callers_nonce_and_the_enclaves_own_words(tmp_path: Path) -> None:
    """The nonce is the caller's; user data and public key are the enclave's, asked anew for each document."""
    keys = iter([b"first", b"second"])
    with enclave(tmp_path, lambda: Binding(user_data=b"me", public_key=next(keys))) as connect:
        assert request_attestation(connect(), NONCE) == repr((NONCE, b"me", b"first")).encode()
        assert request_attestation(connect(), NONCE[:16]) == repr((NONCE[:16], b"me", b"second")).encode()


def test_many_callers_are_answered_one_after_the_other(tmp_path: Path) -> None:
    """Each gets the document with its own nonce."""
    with enclave(tmp_path) as connect:
        answers: dict[bytes, bytes] = {}

        def ask(nonce: bytes) -> None:
            answers[nonce] = request_attestation(connect(), nonce)

        threads = [threading.Thread(target=ask, args=(bytes([number]) * 64,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {nonce: repr((nonce, None, None)).encode() for nonce in answers}
    assert len(answers) == 8


def test_what_the_module_refuses_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A refusal by the security module reaches the caller; the program's own errors stay inside."""

    def refuse(**_: object) -> bytes:
        raise NsmError("the security module refused Attest: InputTooLarge", ErrorCode.INPUT_TOO_LARGE)

    with (
        enclave(tmp_path, attest=refuse) as connect,
        pytest.raises(AttestationRequestError, match="gives no document: the security module refused Attest"),
    ):
        request_attestation(connect(), NONCE)
    (tmp_path / "port").unlink()
    failing = iter([KeyError("a secret")])

    def bind() -> Binding:
        for error in failing:
            raise error
        return Binding()

    with enclave(tmp_path, bind) as connect:
        with pytest.raises(AttestationRequestError, match="the program could not say what to state"):
            request_attestation(connect(), NONCE)
        assert request_attestation(connect(), NONCE), "the service goes on"
    assert "a secret" in capfd.readouterr().err, "told on the enclave's own console"


BAD_REQUESTS = {
    "another version": (b"\2\x20" + NONCE, "version 2 of the protocol is not known here, 1 is"),
    "an older protocol": (b"\x20" + NONCE, "version 32 of the protocol is not known here"),
    "short nonce": (b"\1\x0f" + NONCE[:15], "a nonce has 16 to 64 bytes, not 15"),
    "long nonce": (b"\1\x41" + bytes(65), "a nonce has 16 to 64 bytes, not 65"),
    "no nonce": (b"\1\0", "a nonce has 16 to 64 bytes, not 0"),
}


@pytest.mark.parametrize(("request_bytes", "reason"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_the_enclave_says_what_is_wrong_with_a_request(
    request_bytes: bytes, reason: str, tmp_path: Path
) -> None:
    """One answer of kind 1 and the end of the stream, nothing signed, and the next caller is served."""
    with enclave(tmp_path) as connect:
        stream = connect()
        stream.sendall(request_bytes)
        answer = stream.recv(3, socket.MSG_WAITALL)
        text = stream.recv(int.from_bytes(answer[1:]), socket.MSG_WAITALL).decode()
        assert (answer[0], reason in text) == (1, True)
        assert request_attestation(connect(), NONCE)


def test_silent_slow_and_vanishing_callers_cost_the_time_limit_at_most(tmp_path: Path) -> None:
    """Whoever connects and says nothing, a part, or leaves, delays the next one and harms nobody."""
    with enclave(tmp_path, seconds=0.2) as connect:
        connect()
        connect().sendall(b"\1")
        connect().sendall(b"\1\x20" + NONCE[:31])
        connect().close()
        gone = connect()
        gone.sendall(b"\1\x20" + NONCE)
        gone.close()
        assert request_attestation(connect(), NONCE)


def test_a_caller_that_reads_nothing_is_left(tmp_path: Path) -> None:
    """An answer that nobody takes does not hold the service."""
    large = bytes(60_000)
    with enclave(tmp_path, attest=lambda **_: large, seconds=0.2) as connect:
        listener_side = connect()
        listener_side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        listener_side.sendall(b"\1\x20" + NONCE)
        with pytest.raises(AttestationRequestError, match="announces 60000 bytes"):
            request_attestation(connect(), NONCE)


def test_the_service_ends_with_its_context(tmp_path: Path) -> None:
    """Afterwards nobody listens and no thread is left."""
    before = threading.active_count()
    with enclave(tmp_path):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with socket.socket(socket.AF_UNIX) as stream, pytest.raises(ConnectionRefusedError):
        stream.connect(str(tmp_path / "port"))


def test_strangers_are_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is not the parent's is closed before anything of it is read."""
    monkeypatch.setattr("cloister.sdk.attestation_service.comes_from_parent", lambda *_: False)
    with enclave(tmp_path) as connect, pytest.raises(StreamError):
        request_attestation(connect(), NONCE)


def test_the_parent_is_known_by_its_cid() -> None:
    """Of vsock connections only CID 3's counts as the parent's."""

    class Vsock(socket.socket):
        family = socket.AF_VSOCK

    with Vsock(socket.AF_UNIX) as stream:
        assert sdk_streams.comes_from_parent(stream, (3, 1024))
        assert not sdk_streams.comes_from_parent(stream, (16, 1024))


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Yield the two ends of a stream."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


HOSTILE_ANSWERS = {
    "garbage": (b"HTTP/1.1 400 Bad Request\r\n", AttestationRequestError, "answer begins with 72"),
    "oversize": (
        b"\0\xff\xff",
        AttestationRequestError,
        "announces 65535 bytes, and 1 to 12288 were expected",
    ),
    "oversize refusal": (b"\1\x02\x01", AttestationRequestError, "announces 513 bytes, and 1 to 512"),
    "empty document": (b"\0\0\0", AttestationRequestError, "announces 0 bytes"),
    "truncated": (b"\0\x10\0" + bytes(100), StreamError, "closed the stream after 100 of 4096 bytes"),
    "nothing": (b"", StreamError, "closed the stream after 0 of 3 bytes"),
    "a terminal's orders": (b"\1\0\4\x1b[2J", AttestationRequestError, r"gives no document: \?\[2J$"),
}


@pytest.mark.parametrize(("answer", "kind", "reason"), HOSTILE_ANSWERS.values(), ids=HOSTILE_ANSWERS)
def test_a_hostile_enclave_is_told_apart(
    answer: bytes, kind: type[Exception], reason: str, pair: Pair
) -> None:
    """Lengths are bounded before anything is read, and no text of it drives a terminal."""
    ours, theirs = pair
    theirs.sendall(answer)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(kind, match=reason):
        request_attestation(ours, NONCE)


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "slow"])
def test_an_enclave_that_does_not_answer_in_time_is_left(drip: bool, pair: Pair) -> None:
    """The time limit is for the whole answer, however it trickles."""
    ours, theirs = pair
    stop = threading.Event()

    def trickle() -> None:
        theirs.sendall(b"\0\x10\0")
        while not stop.wait(0.02):
            theirs.sendall(b"x")

    sender = threading.Thread(target=trickle)
    if drip:
        sender.start()
    begun = time.monotonic()
    with pytest.raises(StreamError, match="longer than the time limit"):
        request_attestation(ours, NONCE, timeout=0.2)
    assert time.monotonic() - begun < 20
    stop.set()
    if drip:
        sender.join()


@pytest.mark.parametrize("size", [0, 15, 65])
def test_a_nonce_of_another_size_is_not_sent(size: int, pair: Pair) -> None:
    """The client refuses it before the enclave would."""
    with pytest.raises(AttestationRequestError, match=f"16 to 64 bytes, not {size}"):
        request_attestation(pair[0], bytes(size))
