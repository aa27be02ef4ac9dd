"""What a real enclave hands out through its own driver, other people's verifiers take."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from peers.building import Peers
from peers.conftest import OwnRoot
from peers.verifiers import EvervaultVerifier, pinned_verifiers
from vm.own_host import OwnHost, own_host

pytestmark = pytest.mark.vm

HELLO = Path(__file__).resolve().parents[2] / "examples/hello"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnHost]:
    """Return a host of this module's own."""
    with own_host(tmp_path_factory.mktemp("host")) as host:
        yield host


def test_verifiers_accept_a_running_enclaves_document(peers: Peers, host: OwnHost, foreign: OwnRoot) -> None:
    """All that take a root accept it under this host's and under no other; the rest miss but the root."""
    image = host.top / "hello.eif"
    host.command("cloister.cli.main", "image", "build", HELLO, "--output", image)
    enclave = host.start(image)
    words = [sys.executable, str(HELLO / "attest.py"), str(enclave["EnclaveCID"])]
    done = subprocess.run(
        words, env=os.environ | host.environment, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    host.nitro_cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
    now = datetime.now(UTC)
    root = host.top / "state/cloister/pki/root.pem"
    for verifier in pinned_verifiers(peers):
        verdict = verifier.judge(done.stdout, root=root, at=now)
        assert (verdict.accepted, verdict.reason) == (True, ""), verifier.name
        assert not verifier.judge(done.stdout, root=foreign.root, at=now).accepted
    verdict = EvervaultVerifier(peers.clock).judge(done.stdout, at=now)
    assert verdict.reason.endswith("UnknownIssuer"), verdict
