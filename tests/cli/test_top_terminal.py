"""``cloister top`` on a terminal: every way to end it leaves the terminal as it was."""

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"
SHOW_CURSOR = b"\x1b[?25h"


def read_until(master: int, wanted: bytes) -> bytes:
    """Read what a terminal gets until it holds something."""
    got = b""
    while wanted not in got:
        got += os.read(master, 1 << 16)
    return got


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(lambda master, _: os.write(master, b"xq"), 0, id="q"),
        pytest.param(lambda _, process: process.send_signal(signal.SIGINT), 0, id="SIGINT"),
        pytest.param(lambda _, process: process.send_signal(signal.SIGTERM), 143, id="SIGTERM"),
    ],
)
def test_terminal_is_left_as_it_was(
    tmp_path: Path, end: Callable[[int, subprocess.Popen[bytes]], object], code: int
) -> None:
    """The screen of before and its cursor come back, and keys are lines again."""
    own = {"NITRO_CLI_SOCKETS_PATH": str(tmp_path), "NITRO_CLI_LOGS_PATH": str(tmp_path), "TERM": "xterm"}
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    words = [sys.executable, "-m", "cloister.cli.main", "top", "--interval", "0.1"]
    with subprocess.Popen(words, stdin=terminal, stdout=terminal, env=os.environ | own) as process:
        try:
            read_until(master, b"SUPERVISOR")
            read_until(master, b"SUPERVISOR")  # measuring, and reading keys
            end(master, process)
            got = read_until(master, LEAVE_ALTERNATE_SCREEN)
            assert process.wait(timeout=60) == code
        finally:
            process.kill()
    os.set_blocking(master, False)
    with suppress(BlockingIOError):
        got += os.read(master, 1 << 16)
    after = termios.tcgetattr(terminal)
    os.close(terminal)
    os.close(master)
    assert SHOW_CURSOR in got
    assert after == before
