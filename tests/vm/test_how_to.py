"""The how-to pages work as written: their shell blocks run, top to bottom, in an empty directory."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vm

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (REPOSITORY / "docs/how-to").glob("*.md") if path.name != "README.md")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_runs_as_written(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every command of the page succeeds and no enclave is left."""
    script = "set -eu -o pipefail\n" + "".join(BLOCK.findall(page.read_text()))
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EXAMPLES": str(REPOSITORY / "examples"),
        "NITRO_CLI_SOCKETS_PATH": str(tmp_path / "run"),
        "NITRO_CLI_LOGS_PATH": str(tmp_path / "logs"),
    }
    if "buildah" in script:
        environment |= request.getfixturevalue("tools").environment(tmp_path / "own")
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        environment["NITRO_CLI_ARTIFACTS"] = str(tmp_path / "artifacts")
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    subprocess.run(
        ["nitro-cli", "terminate-enclave", "--all"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list((tmp_path / "run").glob("*.sock"))
