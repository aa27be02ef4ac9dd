"""A session runs real commands, shows what they print, and says in one sentence what failed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cloister.demo import DemoError, Session, change_one_byte, follow_console
from cloister.rootfs import EXAMPLES


@dataclass
class Told:
    """A session and what it said."""

    session: Session
    lines: list[str] = field(default_factory=list)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """Make a session that keeps what it says, and end what it started."""
    lines: list[str] = []
    session = Session(lines.append, tmp_path, dict(os.environ))
    yield Told(session, lines)
    session.stop_all()


def test_command_is_shown_before_its_output(told: Told) -> None:
    """The command line comes first, as it would be typed, then what it printed."""
    told.session.run("sh", "-c", "echo out; echo err >&2")
    assert told.lines == ["$ sh -c 'echo out; echo err >&2'", "err", "out"]


def test_unexpected_exit_code_is_named(told: Told) -> None:
    """A command that fails is shown, and named with its code and the one that was expected."""
    with pytest.raises(DemoError, match="returned 3, 0 was expected"):
        told.session.run("sh", "-c", "exit 3")


def test_unknown_command_is_named(told: Told) -> None:
    """A command that is nowhere is one sentence."""
    with pytest.raises(DemoError, match="the command no-such-command is neither beside"):
        told.session.run("no-such-command")


def test_service_tells_its_address(told: Told, tmp_path: Path) -> None:
    """What a service writes to its ready descriptor is its address; stopping ends the process."""
    program = "import os, sys, time; os.write(int(sys.argv[2]), b'http://there\\n'); time.sleep(60)"
    assert told.session.serve("python", "-c", program, log=tmp_path / "log") == "http://there"
    process = told.session.background[0]
    told.session.stop_all()
    assert process.poll() is not None


def test_service_that_dies_is_quoted(told: Told, tmp_path: Path) -> None:
    """A service that never gets ready is named with the last line of its log."""
    with pytest.raises(DemoError, match="did not start: no such luck"):
        told.session.serve("python", "-c", "import sys; sys.exit('no such luck')", log=tmp_path / "log")
    with pytest.raises(DemoError, match="did not start: it said nothing"):
        told.session.start("true", log=tmp_path / "empty", ready=lambda: False)


def test_console_that_stays_silent_is_given_up(told: Told) -> None:
    """A console that ends without the program's lines is an error, not an endless wait."""
    with pytest.raises(DemoError, match="fewer than twice"):
        follow_console(told.session.spawn("echo", "Linux version 6.12"))


def test_one_byte_is_changed_and_no_more(tmp_path: Path) -> None:
    """The changed copy differs from the example in one byte of app.py, and is still Python."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    copy = tmp_path / change_one_byte(tmp_path)
    before, after = (EXAMPLES / "secret/app.py").read_bytes(), (copy / "app.py").read_bytes()
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    compile(after, "app.py", "exec")


def test_demo_without_set_up_is_one_sentence(tmp_path: Path) -> None:
    """On a host that was never set up the demo says which command to run, leaves nothing, and returns 1."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "cloister.cli.main", "demo"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "run 'cloister setup'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - started < 10
