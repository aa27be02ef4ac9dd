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


def test_pool_is_there_before_enclaves_are() -> None:
    """Enclaves start after the allocator and end before it, and both commands are where pip puts them."""
    allocator = UNIT.with_name("nitro-enclaves-allocator.service")
    (after,) = (line for line in UNIT.read_text().splitlines() if line.startswith("After="))
    assert allocator.name in after
    for unit in (UNIT, allocator):
        commands = [
            line for line in unit.read_text().splitlines() if line.startswith(("ExecStart=", "ExecStop="))
        ]
        assert commands
        assert all("=/usr/local/bin/" in line.replace("=-", "=") for line in commands)
