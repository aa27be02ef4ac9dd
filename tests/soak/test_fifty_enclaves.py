"""Fifty enclaves in sequence: each runs, attests and ends, and nothing of any of them is left."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.attestation import Expected, verify
from cloister.demo.leftovers import find_leftovers, observe
from cloister.places import current_places
from cloister.trust import open_trust

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

ROUNDS = 50
COMMANDS = Path(sys.executable).parent
HELLO = Path(__file__).resolve().parents[2] / "examples/hello"


class Host:
    """A run directory of its own, and the commands in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run = directory / "run"
        self.environment = os.environ | {
            "NITRO_CLI_SOCKETS_PATH": str(self.run),
            "NITRO_CLI_LOGS_PATH": str(directory / "logs"),
        }

    def command(self, *words: str | Path) -> bytes:
        """Run one command; what it printed, or a failure that tells what it said."""
        name, *rest = words
        done = subprocess.run(
            [str(COMMANDS / name), *map(str, rest)],
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def one_round(host: Host, pcrs: dict[int, bytes]) -> None:
    """Run, attest, check for leftovers after the end."""
    enclave: dict[str, Any] = json.loads(
        host.command(
            "nitro-cli", "run-enclave", "--cpu-count", "2", "--memory", "128", "--eif-path", "hello.eif"
        )
    )
    document = host.command("python", HELLO / "attest.py", str(enclave["EnclaveCID"]))
    root = open_trust(current_places().pki).root_certificate
    verified = verify(document, roots=[root], now=datetime.now(UTC), expect=Expected(pcrs=pcrs))
    assert enclave["EnclaveID"].split("-enc")[1] in verified.module_id
    traces = observe([enclave["ProcessID"]], [enclave["EnclaveID"]])
    assert len(traces.processes) >= 2
    host.command("nitro-cli", "terminate-enclave", "--enclave-id", enclave["EnclaveID"])
    left = find_leftovers(traces, run=host.run, scratch=[])
    assert not any(left.values()), left


def test_fifty_enclaves_in_sequence(tmp_path: Path) -> None:
    """50 of 50 run, attest and end, and leave no process, socket, mount, control group or memory file."""
    host = Host(tmp_path)
    built = json.loads(host.command("cloister", "image", "build", HELLO, "--output", "hello.eif", "--json"))
    pcrs = {index: bytes.fromhex(built["Measurements"][f"PCR{index}"]) for index in range(3)}
    for number in range(1, ROUNDS + 1):
        one_round(host, pcrs)
        print(f"\r{number} of {ROUNDS} ran, attested and ended", end="", flush=True)
    assert json.loads(host.command("nitro-cli", "describe-enclaves")) == []
    print()
