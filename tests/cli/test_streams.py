"""Whatever becomes of the standard streams, cloister and the allocator end with a sentence and a code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = {"cloister": "cloister.cli.main", "nitro-enclaves-allocator": "cloister.cli.allocator"}


def shell(tmp_path: Path, module: str, rest: str) -> tuple[int, str]:
    """Run a module's command line in a shell, on a host of its own; return its code and standard error."""
    own = {name: str(tmp_path / name) for name in ("NITRO_CLI_SOCKETS_PATH", "NITRO_CLI_LOGS_PATH")}
    ended = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -m {module} {rest}'],
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("program", "words"),
    [
        pytest.param("cloister", "ps", id="table"),
        pytest.param("cloister", "ps --json", id="json"),
        pytest.param("cloister", "explain E58", id="text"),
        pytest.param("nitro-enclaves-allocator", "--show", id="allocator"),
    ],
)
def test_full_disk_is_a_failure_in_one_sentence(tmp_path: Path, program: str, words: str) -> None:
    """Output that cannot be written ends with 1 and says so; nobody sees a traceback."""
    code, told = shell(tmp_path, MODULES[program], f"{words} >/dev/full")
    assert (code, told) == (1, f"{program}: standard output: No space left on device.\n")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        pytest.param("cloister", "ps", id="table"),
        pytest.param("cloister", "--help", id="help"),
        pytest.param("nitro-enclaves-allocator", "--show", id="allocator"),
    ],
)
def test_closed_output_is_no_failure(tmp_path: Path, program: str, words: str) -> None:
    """Whoever closes standard output does not want it, and no file of ours takes its number."""
    assert shell(tmp_path, MODULES[program], f"{words} >&-") == (0, "")


@pytest.mark.parametrize(
    ("locale", "told"),
    [("C", b"a/\\u6f22\\xfc\\udcff\n"), ("C.UTF-8", "a/\u6f22\u00fc".encode() + b"\xff\n")],
)
def test_names_are_told_in_every_locale(locale: str, told: bytes) -> None:
    """What a locale cannot spell is spelled out, what is no UTF-8 is passed on; nobody sees a traceback."""
    code = (
        "from cloister.cli.streams import open_closed_streams; open_closed_streams();"
        "print('a/\\u6f22\\u00fc\\udcff')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "LC_ALL": locale,
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONUTF8": "0",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, told)


def test_error_that_cannot_be_told_keeps_its_code(tmp_path: Path) -> None:
    """A full standard error changes nothing in what a script sees."""
    assert shell(tmp_path, MODULES["cloister"], "logs nobody 2>/dev/full")[0] == 1
