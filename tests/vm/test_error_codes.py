"""nitro-cli's error code that only a machine provokes; the others: tests/cli/test_error_codes.py."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.cli.nitro.codes import TEXTS
from cloister.eif import SectionSource, SectionType, write_eif
from cloister.kit import Kit
from cloister.trust import initialise

pytestmark = pytest.mark.vm


@pytest.mark.usefixtures("jail")
def test_guest_that_does_not_come_up_provokes(tmp_path: Path, kit: Kit) -> None:
    """A kernel without an init panics: E36 with the reason, then E39; the error log names the supervisor."""
    image, state, logs, run = (tmp_path / name for name in ("no-init.eif", "state", "logs", "run"))
    sections = [
        (SectionType.KERNEL, (kit.directory / "kernel").read_bytes()),
        (SectionType.CMDLINE, (kit.directory / "cmdline").read_bytes().strip()),
        (SectionType.RAMDISK, b"no archive"),
    ]
    with image.open("wb+") as out:
        write_eif(out, [SectionSource.of(*section) for section in sections])
    instance = "i-0123456789abcdef0"
    initialise(state / "cloister/pki", region="local", instance_id=instance, now=datetime.now(UTC))
    places = {"XDG_STATE_HOME": state, "NITRO_CLI_LOGS_PATH": logs, "NITRO_CLI_SOCKETS_PATH": run}
    words = ["run-enclave", "--cpu-count", "1", "--memory", "128", "--eif-path", str(image)]
    done = subprocess.run(
        [sys.executable, "-m", "cloister.cli.nitro.main", *words],
        env=os.environ | {name: str(place) for name, place in places.items()},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (39, "")
    first, _, second = done.stderr.partition("Failed connections: 1\n")
    assert f"[ E36 ] {TEXTS['E36']}\nThe guest reset itself and told nothing" in first
    assert second.startswith(f"[ E39 ] {TEXTS['E39']}\n")
    failure, _ = sorted(logs.glob("err*.log"))
    assert "\n    Waiting for the `ready` signal from a freshly booted enclave\n" in failure.read_text()
    assert re.search(r"\n  Root error file: cloister/supervisor/\w+\.py\n", failure.read_text())
    assert [path.name for path in run.rglob("*") if not path.is_dir() and path.name != ".lock"] == []
