"""The how-to pages work as written: their shell blocks run, top to bottom, in an empty directory."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.kit import KitMissingError, find_kit
from cloister.packages import PackageError
from cloister.places import current_places
from cloister.trust import initialise
from container_tools.serving import PASSWORD, USER, free_port, serving_registry
from container_tools.unpacking import ContainerTools
from simulators.key_service import INSTANCE, running
from simulators.soft_token import unpack_softhsm

pytestmark = pytest.mark.vm

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (REPOSITORY / "docs/how-to").glob("*.md") if path.name != "README.md")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@contextmanager
def signing(work: Path) -> Iterator[dict[str, str]]:
    """Give a token of one's own, and a key service that runs."""
    try:
        softhsm = unpack_softhsm(work)
    except PackageError as error:
        pytest.skip(f"SoftHSM cannot be had: {error}")
    trust = initialise(work / "pki", region="us-east-1", instance_id=INSTANCE, now=datetime.now(UTC))
    (work / "kms").mkdir()
    with running(work / "kms", trust.root_pem_path) as service:
        yield {
            "PATH": str(softhsm.commands),
            "NITRO_CLI_PKCS11_MODULE": str(softhsm.module),
            "SOFTHSM2_CONF": str(softhsm.configuration),
            "AWS_ENDPOINT_URL_KMS": service.endpoint,
            "AWS_SHARED_CREDENTIALS_FILE": str(service.credentials_file("administrator")),
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def containers(work: Path, tools: ContainerTools) -> Iterator[dict[str, str]]:
    """Give the container tools, and a registry with a password."""
    address = f"127.0.0.1:{free_port()}"
    with serving_registry(tools, work, address, password=True):
        yield tools.environment(work / "own") | {
            "NITRO_CLI_ARTIFACTS": str(work / "artifacts"),
            "REGISTRY": address,
            "REGISTRY_USER": USER,
            "REGISTRY_PASSWORD": PASSWORD,
        }


@pytest.fixture
def surroundings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give a page's reader what the page takes for granted."""
    work = tmp_path / "surroundings"
    work.mkdir()
    with ExitStack() as held:
        match request.node.callspec.params["page"].stem:
            case "sign-an-image":
                yield held.enter_context(signing(work))
            case "build-from-a-container":
                yield held.enter_context(containers(work, request.getfixturevalue("tools")))
            case "build-for-another-architecture":
                try:
                    find_kit(current_places(), "aarch64")
                except KitMissingError as error:
                    pytest.skip(str(error))
                yield {}
            case _:
                yield {}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_runs_as_written(page: Path, tmp_path: Path, surroundings: dict[str, str]) -> None:
    """Every command of the page succeeds and no enclave is left."""
    script = "set -eu -o pipefail\n" + "".join(BLOCK.findall(page.read_text()))
    environment = os.environ | surroundings
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
