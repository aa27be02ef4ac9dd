"""An enclave's whole life under KVM, as whoever runs this: the accelerator is chosen, not asked for."""

import json
import os
import runpy
import secrets
import select
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.attestation import Expected, verify
from cloister.places import current_places
from cloister.trust import initialise

pytestmark = pytest.mark.vm

ATTEST = Path(__file__).resolve().parents[3] / "examples/hello/attest.py"
INSTANCE = "i-0123456789abcdef0"


def nitro_cli(*words: str) -> str:
    """Run a command that has to succeed and return what it prints."""
    command = [sys.executable, "-m", "cloister.cli.nitro.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def open_files(pids: list[int]) -> set[str]:
    """Return what processes hold open."""
    found = set()
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed since it was listed
            found.add(str(link.readlink()))
    return found


def test_enclave_runs_attests_and_ends(
    exchange: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe settles on KVM, the enclave is a KVM machine, its document verifies, and nothing is left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(tmp_path / "run"))
    monkeypatch.setenv("NITRO_CLI_LOGS_PATH", str(tmp_path / "logs"))
    trust = initialise(current_places().pki, region="local", instance_id=INSTANCE, now=datetime.now(UTC))
    image = str(exchange / "hello.eif")
    enclave = json.loads(nitro_cli("run-enclave", "--cpu-count", "2", "--memory", "128", "--eif-path", image))
    answers = json.loads((current_places().cache / "accelerator.json").read_text())
    (footing,) = (answer for key, answer in answers.items() if os.uname().release in key)
    assert footing == {"accelerator": "kvm", "own_user": os.geteuid() == 0, "refused": ""}

    processes = family(enclave["ProcessID"])
    handles = [os.pidfd_open(pid) for pid in processes]
    held = open_files(processes)
    assert "anon_inode:kvm-vm" in held
    assert {f"anon_inode:kvm-vcpu:{index}" for index in range(2)} <= held

    nonce = secrets.token_bytes(32)
    document = runpy.run_path(str(ATTEST))["attest"](enclave["EnclaveCID"], nonce)
    measured = json.loads((exchange / "hello.json").read_text())["Measurements"]
    expected = {index: bytes.fromhex(measured[f"PCR{index}"]) for index in range(3)}
    verify(
        document,
        roots=[trust.root_certificate],
        now=datetime.now(UTC),
        expect=Expected(pcrs=expected, nonce=nonce),
    )

    nitro_cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
    ended = select.select(handles, [], [], 0)[0]
    assert len(ended) == len(handles) == 3, "supervisor, bubblewrap, QEMU"
    for handle in handles:
        os.close(handle)
    left = [path.name for path in (tmp_path / "run").rglob("*") if not path.is_dir()]
    assert [name for name in left if name != ".lock"] == []
