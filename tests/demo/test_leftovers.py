"""The look for leftovers finds what is planted, and nothing when all is gone."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.demo import find_leftovers, observe

HOLDER = (
    "import os, subprocess, sys\n"
    "os.memfd_create('guest-memory')\n"
    "child = subprocess.Popen(['sleep', '60'])\n"
    "print('ready', flush=True)\n"
    "sys.stdin.read()\n"
    "child.kill(); child.wait()\n"
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Make a private run directory."""
    directory = tmp_path / "run"
    (directory / "vsock").mkdir(parents=True)
    return directory


@pytest.fixture
def holder(run: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process with a memory file, a child, and the run directory in its environment."""
    environment = {**os.environ, "NITRO_CLI_SOCKETS_PATH": str(run)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process


def test_living_enclave_is_found(run: Path, holder: "subprocess.Popen[bytes]") -> None:
    """A supervisor, its child and its memory file are seen while they live, by three independent signs."""
    traces = observe([holder.pid], ["1a2b3c"])
    assert len(traces.processes) == 2
    assert len(traces.memory_files) == 1
    found = find_leftovers(traces, run=run, scratch=[])
    assert f"process {holder.pid}" in found["processes"]
    assert f"process {holder.pid} with our environment" in found["processes"]
    assert len(found["memory files"]) == 1


def test_dead_enclave_leaves_nothing(run: Path, holder: "subprocess.Popen[bytes]") -> None:
    """Once the processes have ended every list is empty."""
    traces = observe([holder.pid], ["1a2b3c"])
    holder.communicate()
    found = find_leftovers(traces, run=run, scratch=[run.parent / "tmp"])
    assert found == {kind: [] for kind in found}
    assert len(found) == 6


def test_process_that_was_never_seen_is_found_by_its_environment(
    run: Path, holder: "subprocess.Popen[bytes]"
) -> None:
    """A process nobody observed still carries the run directory in its environment."""
    found = find_leftovers(observe([], []), run=run, scratch=[])
    assert f"process {holder.pid} with our environment" in found["processes"]


def test_stale_sockets_are_found(run: Path) -> None:
    """A control socket and an enclave's address file are leftovers; the parent's own listeners are not."""
    for name in ("1a2b3c.sock", "vsock/16/mux", "vsock/3/8000"):
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            descriptor = os.open(path.parent, os.O_PATH)
            listener.bind(f"/proc/self/fd/{descriptor}/{path.name}")
            os.close(descriptor)
    found = find_leftovers(observe([], []), run=run, scratch=[])
    assert found["sockets"] == [str(run / "1a2b3c.sock"), str(run / "vsock/16/mux")]


def test_scratch_files_are_found(run: Path, tmp_path: Path) -> None:
    """Whatever lies in the scratch directories is a leftover."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    (scratch / "ramdisk").touch()
    found = find_leftovers(observe([], []), run=run, scratch=[scratch])
    assert found["scratch files"] == [str(scratch / "ramdisk")]
