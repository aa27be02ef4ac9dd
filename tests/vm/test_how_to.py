"""The how-to pages work as written: their shell blocks run, top to bottom, in an empty directory."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.packages import PackageError
from cloister.trust import initialise
from simulators.key_service import INSTANCE, running
from simulators.soft_token import unpack_softhsm

pytestmark = pytest.mark.vm

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (REPOSITORY / "docs/how-to").glob("*.md") if path.name != "README.md")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def surroundings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give the page on signing what its reader has: a token of his own, and a key service that runs."""
    if request.node.callspec.params["page"].stem != "sign-an-image":
        yield {}
        return
    (tmp_path / "softhsm").mkdir()
    try:
        softhsm = unpack_softhsm(tmp_path / "softhsm")
    except PackageError as error:
        pytest.skip(f"SoftHSM cannot be had: {error}")
    trust = initialise(tmp_path / "pki", region="us-east-1", instance_id=INSTANCE, now=datetime.now(UTC))
    (tmp_path / "kms").mkdir()
    with running(tmp_path / "kms", trust.root_pem_path) as service:
        yield {
            "PATH": str(softhsm.commands),
            "NITRO_CLI_PKCS11_MODULE": str(softhsm.module),
            "SOFTHSM2_CONF": str(softhsm.configuration),
            "AWS_ENDPOINT_URL_KMS": service.endpoint,
            "AWS_SHARED_CREDENTIALS_FILE": str(service.credentials_file("administrator")),
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_runs_as_written(
    page: Path, tmp_path: Path, surroundings: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """Every command of the page succeeds and no enclave is left."""
    script = "set -eu -o pipefail\n" + "".join(BLOCK.findall(page.read_text()))
    environment = os.environ | surroundings
    if "buildah" in script:
        environment |= request.getfixturevalue("tools").environment(tmp_path / "own")
        environment["NITRO_CLI_ARTIFACTS"] = str(tmp_path / "artifacts")
    found = [
        surroundings.get("PATH"),
        str(Path(sys.executable).parent),
        environment["PATH"],
        os.environ["PATH"],
    ]
    environment |= {
        "PATH": ":".join(part for part in found if part),
        "EXAMPLES": str(REPOSITORY / "examples"),
        "NITRO_CLI_SOCKETS_PATH": str(tmp_path / "run"),
        "NITRO_CLI_LOGS_PATH": str(tmp_path / "logs"),
    }
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
