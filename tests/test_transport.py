"""Streams to (cid, port) by the path rules of the parent."""

import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister import transport
from cloister.transport import (
    AddressInUseError,
    RefusedError,
    TransportTimeoutError,
    UnreachableError,
    inside_enclave,
    listen,
    listener_path,
    open_stream,
)
from cloister.vsock import AddressError

pytestmark = pytest.mark.skipif(inside_enclave(), reason="this machine is an enclave")


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an address tree whose paths are longer than a socket's may be."""
    run = tmp_path / ("r" * 100)
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(run))
    return run / "vsock"


@pytest.fixture
def mux(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Run a multiplexer of enclave 16 that gives scripted answers and keeps what it was told."""
    (tree / "16").mkdir(parents=True, mode=0o700)
    answers: list[bytes] = []
    with transport._short_path(tree / "16") as short:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(short / "mux"))
        listener.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            line = client.recv(100)
            if answers and answers[0] == b"silence":
                answers.append(client.recv(100))
            elif answers:
                client.sendall(answers.pop(0))
            answers.append(line)
            client.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield answers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_listener_is_reached_by_its_number(tree: Path) -> None:
    """``listen`` and ``open_stream`` meet; the socket is private."""
    with listen(5000) as listener, open_stream(3, 5000) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"over")
            assert server.recv(10) == b"over"
            assert client.gettimeout() is None
        assert listener_path(5000) == tree / "3/5000"
        assert stat.S_IMODE(listener_path(5000).stat().st_mode) == 0o600
        assert stat.S_IMODE((tree / "3").stat().st_mode) == 0o700


def test_one_listener_a_port() -> None:
    """A second listener is refused while the first lives; a dead one's file is replaced."""
    first = listen(5000)
    with pytest.raises(AddressInUseError, match="another program"):
        listen(5000)
    first.close()
    assert listener_path(5000).is_socket()
    with listen(5000), open_stream(3, 5000):
        pass


def test_a_file_that_is_no_socket_is_left_alone(tree: Path) -> None:
    """``listen`` removes nothing but a dead socket."""
    (tree / "3").mkdir(parents=True)
    (tree / "3/5000").write_text("precious")
    with pytest.raises(AddressInUseError, match="not a socket"):
        listen(5000)
    assert (tree / "3/5000").read_text() == "precious"


def test_console_addresses_are_paths_too() -> None:
    """A listener under another CID (the hypervisor's console) is reached in the same way."""
    with listen(10016, cid=0), open_stream(0, 10016):
        pass


def test_nobody_listens(tree: Path) -> None:
    """A port nobody listens on is refused, a CID nobody has cannot be reached."""
    with pytest.raises(UnreachableError, match=r"CID 3, port 5000"):
        open_stream(3, 5000)
    listen(5000).close()
    with pytest.raises(RefusedError):
        open_stream(3, 5000)
    with pytest.raises(RefusedError):
        open_stream(3, 5001)
    with pytest.raises(UnreachableError, match="CID 99"):
        open_stream(99, 5000)


def test_the_multiplexer_is_asked(mux: list[bytes]) -> None:
    """A stream into an enclave begins after the multiplexer's line, and what follows that is payload."""
    mux.append(b"OK 1073741824\nhello")
    with open_stream(16, 7000) as client:
        assert client.recv(100) == b"hello"
    assert mux == [b"CONNECT 7000\n"]


@pytest.mark.parametrize("answer", [b"", b"NO\n", b"OK x\n", b"O" * 100])
def test_the_multiplexer_refuses(mux: list[bytes], answer: bytes) -> None:
    """Anything but the line is a refusal."""
    if answer:
        mux.append(answer)
    with pytest.raises(RefusedError):
        open_stream(16, 7000)


def test_a_silent_multiplexer_costs_the_timeout(mux: list[bytes]) -> None:
    """A connection that is never answered ends with TransportTimeoutError."""
    mux.append(b"silence")
    with pytest.raises(TransportTimeoutError, match=r"within 0\.1 s"):
        open_stream(16, 7000, timeout=0.1)


@pytest.mark.parametrize(("cid", "port"), [(-1, 5), (1 << 32, 5), (3, -1), (3, (1 << 32) - 1)])
def test_impossible_addresses(cid: int, port: int) -> None:
    """A CID or port that cannot be is named in the error."""
    with pytest.raises(AddressError, match="out of range"):
        open_stream(cid, port)
