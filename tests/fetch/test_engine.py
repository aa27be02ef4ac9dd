"""Does a Docker daemon answer, and what does it have: whatever else listens there is told apart in time."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cloister.fetch import FetchError, engine
from cloister.fetch.engine import DockerDaemon, NoDaemonError


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Listen on a socket and give every caller the same bytes, or with none the same silence."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        held = list[socket.socket]()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    caller, _ = listener.accept()
                    held.append(caller)
                    if answer:
                        caller.recv(4096)
                        caller.sendall(answer)
                        caller.shutdown(socket.SHUT_RDWR)

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            server.join()
            for caller in held:
                caller.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "it did not answer in time"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "is no Docker daemon"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "is no Docker daemon"),
        (b"HTTP/1.1 200 OK\r\nApi-Version: ../x\r\nContent-Length: 2\r\n\r\nOK", "is no Docker daemon"),
        (b"SSH-2.0-OpenSSH\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000, "HTTPException"),
    ],
    ids=[
        "silence",
        "another server",
        "no version",
        "a path as version",
        "another protocol",
        "endless headers",
    ],
)
def test_what_is_no_daemon_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, reason: str
) -> None:
    """Nothing is asked of what does not say which version of the Engine API it speaks."""
    monkeypatch.setattr(engine, "_PING_SECONDS", 0.3 if not answer else 30.0)
    path = tmp_path / "docker.sock"
    with answering(path, answer), pytest.raises(NoDaemonError, match=reason):
        DockerDaemon.find({"DOCKER_HOST": f"unix://{path}"})


def test_nobody_there_is_told(tmp_path: Path) -> None:
    """No socket, and a socket that nobody listens on."""
    path = tmp_path / "docker.sock"
    with pytest.raises(NoDaemonError, match="No such file or directory"):
        DockerDaemon.find({"DOCKER_HOST": f"unix://{path}"})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(NoDaemonError, match="Connection refused"):
        DockerDaemon.find({"DOCKER_HOST": f"unix://{path}"})


@pytest.mark.parametrize("address", ["ssh://host", "tcp://host", "tcp://host:1/x/y", "/run/docker.sock"])
def test_other_addresses_are_refused(address: str) -> None:
    """One sentence says what DOCKER_HOST may be."""
    with pytest.raises(FetchError, match=r"expected unix://PATH or tcp://HOST:PORT"):
        DockerDaemon.find({"DOCKER_HOST": address})


def test_a_real_daemon_answers(docker: Path, tmp_path: Path) -> None:
    """Debian's says its version, has one image and not another, and gives it as 'docker save' would."""
    daemon = DockerDaemon.find({"DOCKER_HOST": f"unix://{docker}"})
    assert daemon.version.startswith("1.")
    assert daemon.size_of("nothing:latest") is None
    size = daemon.size_of("hello:latest")
    assert size
    seen = list[tuple[str, int, int]]()
    archive = tmp_path / "image.tar"
    daemon.export("hello:latest", archive, size, lambda *told: seen.append(told))
    assert seen[-1][1] == archive.stat().st_size > size
    with pytest.raises(FetchError, match="answers 404"):
        daemon.export("nothing:latest", tmp_path / "none.tar", 0, lambda *_: None)
    assert not os.path.lexists(tmp_path / "none.tar") or (tmp_path / "none.tar").stat().st_size == 0
