"""Temporary space is private, and gone afterwards, also after a kill."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloister.fetch import FetchError, open_workspace

HOLDER = """
import sys
from pathlib import Path
from cloister.fetch import open_workspace
with open_workspace(Path(sys.argv[1])) as workspace:
    (workspace / "file").write_bytes(b"x")
    print(workspace, flush=True)
    sys.stdin.read()
"""


def test_workspace_is_removed_on_every_way_out(tmp_path: Path) -> None:
    """After success and after an error there is nothing but the lock."""
    with open_workspace(tmp_path / "artifacts") as workspace:
        assert workspace.stat().st_mode & 0o777 == 0o700
        (workspace / "deep").mkdir()
    with pytest.raises(KeyboardInterrupt), open_workspace(tmp_path / "artifacts"):
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [".fetch-lock"]


def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path: Path) -> None:
    """A living process's directory stays, a killed one's is removed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        with open_workspace(tmp_path):
            assert (left / "file").exists()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert left.exists()
        with open_workspace(tmp_path) as workspace:
            assert not left.exists()
            assert workspace.exists()
    finally:
        process.kill()
        process.communicate()


def test_no_place_is_one_sentence(tmp_path: Path) -> None:
    """A file where the directory should be is told."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot hold temporary files"), open_workspace(tmp_path / "file"):
        pass
