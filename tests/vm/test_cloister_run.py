"""``cloister run`` and those who look on: statuses, signals, restarts, and what is left after the end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloister.kit import Kit
from cloister.vmm import Jail
from vm.own_host import OwnHost, own_host

pytestmark = pytest.mark.vm

CLOISTER = "cloister.cli.main"
SPOKEN = "the program speaks"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, kit: Kit, jail: Jail) -> Iterator[OwnHost]:
    """Make a host of this module's own."""
    del jail  # asked for so that its absence is told
    with own_host(tmp_path_factory.mktemp("host")) as host:
        yield host
    left = [path.name for path in host.run_directory.rglob("*") if path.is_socket()]
    assert left == []


@contextmanager
def running(host: OwnHost, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run ``cloister run`` until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", CLOISTER, "run", *map(str, words)],
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def await_speech(process: subprocess.Popen[str]) -> None:
    """Read a console until the program has spoken."""
    assert process.stdout is not None
    assert any(SPOKEN in line for line in process.stdout)


def test_program_that_exits_and_what_is_left_of_it(host: OwnHost, kit: Kit) -> None:
    """The console comes whole, the status is the exit code, and both can be asked for after the end."""
    done = host.command(CLOISTER, "run", host.image(kit, "ending.c", "exit", "7"), "--debug", code=7)
    assert SPOKEN in done.stdout
    assert "The program exited with status 7." in done.stderr
    (enclave,) = json.loads(host.command(CLOISTER, "ps", "--all", "--json").stdout)
    assert (enclave["State"], enclave["ExitStatus"]) == ("ENDED", 7)
    assert enclave["Document"]["PCR0"] == "0" * 96
    assert enclave["Measurements"]["PCR0"] != "0" * 96
    assert host.command(CLOISTER, "logs", enclave["EnclaveName"]).stdout == done.stdout
    host.command(CLOISTER, "wait", enclave["EnclaveID"], code=7)
    assert "ended" not in host.command(CLOISTER, "ps").stdout


def test_source_is_built_run_and_restarted(host: OwnHost, kit: Kit) -> None:
    """A directory is built first; a failing program is started again twice; no scratch is left."""
    host.image(kit, "ending.c", "exit", "7")
    words = ("--cmd", "/bin/program signal 6", "--name", "again", "--restart", "on-failure:1")
    done = host.command(CLOISTER, "run", host.top / "root-ending.c", *words, code=134)
    assert done.stdout == ""
    assert done.stderr.count("again runs as") == 2
    assert "restarting again in 1 s (restart 1 of 1)" in done.stderr
    assert done.stderr.count("--debug shows") == 1
    assert done.stderr.count("SIGABRT (6)") == 2
    previous = host.command(CLOISTER, "logs", "again", "--previous", "--events").stdout
    assert "killed by SIGABRT" in previous


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_enclave(host: OwnHost, kit: Kit, number: signal.Signals, code: int) -> None:
    """A signal ends the enclave in order; the exit code is the signal's."""
    with running(host, host.image(kit, "ending.c", "stay"), "--debug", "--name", "long") as process:
        await_speech(process)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"ended by {number.name}" in said
    host.command(CLOISTER, "wait", "long", code=143)


def test_killed_supervisor_and_closed_output(host: OwnHost, kit: Kit) -> None:
    """A supervisor that is killed is said to be, with 125; a console nobody reads ends the enclave."""
    image = host.image(kit, "ending.c", "stay")
    with running(host, image, "--debug", "--name", "killed") as process:
        await_speech(process)
        (enclave,) = json.loads(host.command(CLOISTER, "ps", "--json").stdout)
        (used,) = json.loads(host.command(CLOISTER, "top", "--once", "--json", "--interval", "0.1").stdout)
        assert 0 < used["GuestMemoryUsed"] < used["GuestMemorySize"] == 256 << 20
        assert len(used["VCPUPercents"]) == enclave["NumberOfCPUs"]
        os.kill(enclave["ProcessID"], signal.SIGKILL)
        assert "supervisor was killed" in process.communicate(timeout=60)[1]
        assert process.returncode == 125
    with running(host, image, "--debug", "--name", "unread") as process:
        await_speech(process)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 141


def test_detached_enclave_is_stopped(host: OwnHost, kit: Kit) -> None:
    """--detach prints the id alone; stop ends it, whatever the state of the logs, and wait tells so."""
    words = ("run", host.image(kit, "ending.c", "stay"), "--detach", "--name", "apart")
    enclave_id = host.command(CLOISTER, *words).stdout.strip()
    assert enclave_id in host.command(CLOISTER, "ps").stdout
    unusable = host.environment | {"NITRO_CLI_LOGS_PATH": "/dev/null/none"}
    stop = [sys.executable, "-m", CLOISTER, "stop", "apart"]
    done = subprocess.run(stop, env=unusable, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "apart\n")
    host.command(CLOISTER, "wait", enclave_id, code=143)
