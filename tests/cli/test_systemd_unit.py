"""The systemd template unit is one that systemd understands."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "deploy/systemd/cloister-enclave@.service"


def test_unit_is_valid(tmp_path: Path) -> None:
    """systemd-analyze has nothing to say about an instance of it, with the command where this host has it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is absent")
    command = Path(sys.executable).with_name("cloister")
    instance = tmp_path / "cloister-enclave@web.service"
    instance.write_text(UNIT.read_text().replace("/usr/local/bin/cloister", str(command)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", instance],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
