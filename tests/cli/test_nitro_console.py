"""nitro-cli console: what it copies, when it ends, and that many can follow one another."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cloister.cli.nitro.console import PORT_OFFSET, copy_console
from cloister.cli.nitro.main import main
from cloister.control import Reply
from simulators.supervisor import supervisor

Run = Callable[..., tuple[int, str, str]]
CID = 16
DEBUG = Reply(0, {"EnclaveName": "hello", "Flags": "DEBUG_MODE"})


@contextmanager
def console(run_directory: Path, output: bytes, *, stays: threading.Event | None = None) -> Iterator[None]:
    """Be a debug enclave's console: say something to each who connects, and leave, or stay silent."""
    path = run_directory / f"vsock/0/{CID + PORT_OFFSET}"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:  # shut down
                    return
                with client, suppress(OSError):  # whoever looked may have left
                    client.sendall(output)
                    if stays is not None:
                        stays.wait(60)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        try:
            yield
        finally:
            if stays is not None:
                stays.set()
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def test_console_is_copied_to_its_end(places: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Stdout gets the console's bytes and nothing else, however often one looks; stderr says what goes on."""
    output = "".join(f"line {number}\n" for number in range(1000))
    with supervisor(places, "1", reply=DEBUG, cid=CID), console(places, output.encode()):
        for _ in range(5):
            assert main(["console", "--enclave-name", "hello"]) == 0
            shown = capfd.readouterr()
            assert shown.out == output
            assert shown.err.splitlines() == [
                f"Connecting to the console for enclave {CID}...",
                "Successfully connected to the console.",
            ]


@pytest.mark.parametrize("seconds", ["0", "1"])
def test_console_ends_when_its_time_is_over(
    places: Path, capfd: pytest.CaptureFixture[str], seconds: str
) -> None:
    """--disconnect-timeout ends a console that stays open, not before its time, and that is no failure."""
    stays = threading.Event()
    with supervisor(places, "1", reply=DEBUG, cid=CID), console(places, b"x\n", stays=stays):
        began = time.monotonic()
        assert main(["console", "--enclave-name", "hello", "--disconnect-timeout", seconds]) == 0
        assert time.monotonic() - began >= int(seconds)
    assert capfd.readouterr().out == ("" if seconds == "0" else "x\n")


def test_longest_time_limit_is_accepted(places: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The largest number of seconds that the option can hold does no harm."""
    with supervisor(places, "1", reply=DEBUG, cid=CID), console(places, b"x\n"):
        most = str((1 << 64) - 1)
        assert main(["console", "--enclave-name", "hello", "--disconnect-timeout", most]) == 0
    assert capfd.readouterr().out == "x\n"


def test_absent_console_is_e44(run: Run, places: Path) -> None:
    """A debug enclave whose console cannot be reached is E44."""
    with supervisor(places, "1", reply=DEBUG, cid=CID):
        code, out, err = run("console", "--enclave-name", "hello")
    assert (code, out) == (44, "")
    assert "[ E44 ]" in err


def test_silent_console_waits_for_its_deadline() -> None:
    """Nothing to read is waited for exactly until the deadline."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        deadline = time.monotonic() + 0.1
        copy_console(ours, deadline)
        assert time.monotonic() >= deadline
