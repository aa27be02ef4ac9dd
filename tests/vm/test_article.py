"""The session that introduces AWS Nitro Enclaves, typed as it is printed, with buildah in Docker's place."""

import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_tools.hello import store_busybox, write_example
from container_tools.unpacking import ContainerTools
from simulators.nitro_host import NitroHost

pytestmark = pytest.mark.vm

LIMIT = 120.0


@pytest.fixture
def host(tools: ContainerTools, tmp_path: Path) -> Iterator[NitroHost]:
    """Give a user with the tools, the example's directory and a base image."""
    host = NitroHost.make(tmp_path)
    host.environment.update(tools.environment(tmp_path / "own"))
    commands = Path(sys.executable).parent
    host.environment["PATH"] = f"{commands}:{host.environment['PATH']}"
    host.environment["NITRO_CLI_ARTIFACTS"] = str(tmp_path / "artifacts")
    store_busybox(tools, host.environment, tmp_path)
    write_example(tmp_path / "hello")
    try:
        yield host
    finally:
        host.cli("terminate-enclave", "--all")


def typed(host: NitroHost, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the article in the directory that holds ``hello``."""
    done = subprocess.run(
        shlex.split(line),
        cwd=host.top,
        env=host.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_articles_session_runs_as_printed(host: NitroHost) -> None:
    """Build, run, describe, watch and terminate: every line succeeds, every answer has its printed shape."""
    typed(host, "buildah build -t hello hello")
    built = typed(host, "nitro-cli build-enclave --docker-uri hello:latest --output-file hello.eif")
    assert built.stderr.splitlines() == [
        "Start building the Enclave Image...",
        "Using the locally available Docker image...",
        "Enclave Image successfully created.",
    ]
    measurements = json.loads(built.stdout)["Measurements"]
    assert list(measurements) == ["HashAlgorithm", "PCR0", "PCR1", "PCR2"]
    assert (
        json.loads(typed(host, "nitro-cli describe-eif --eif-path hello.eif").stdout)["ImageName"] == "hello"
    )

    line = "nitro-cli run-enclave --eif-path hello.eif --memory 512 --cpu-count 2 --debug-mode"
    ran = typed(host, line)
    enclave: dict[str, Any] = json.loads(ran.stdout)
    assert list(enclave) == [
        "EnclaveName", "EnclaveID", "ProcessID", "EnclaveCID", "NumberOfCPUs", "CPUIDs", "MemoryMiB",
    ]  # fmt: skip
    assert (enclave["EnclaveName"], enclave["NumberOfCPUs"], enclave["MemoryMiB"]) == ("hello", 2, 512)
    assert "Start allocating memory..." in ran.stderr.splitlines()
    assert ran.stderr.splitlines()[-1].startswith(
        f"Started enclave with enclave-cid: {enclave['EnclaveCID']}, "
    )

    (described,) = json.loads(typed(host, "nitro-cli describe-enclaves").stdout)
    assert list(described) == [*enclave, "State", "Flags", "Measurements"]
    assert {name: described[name] for name in enclave} == enclave
    assert (described["State"], described["Flags"]) == ("RUNNING", "DEBUG_MODE")
    assert described["Measurements"] == measurements

    assert "[   2] Hello from the enclave side!" in watch(host, enclave, "[   2]")
    ended = typed(host, f"nitro-cli terminate-enclave --enclave-id {enclave['EnclaveID']}")
    assert json.loads(ended.stdout) == {
        "EnclaveName": "hello",
        "EnclaveID": enclave["EnclaveID"],
        "Terminated": True,
    }
    assert ended.stderr.strip() == f"Successfully terminated enclave {enclave['EnclaveID']}."
    assert json.loads(typed(host, "nitro-cli describe-enclaves").stdout) == []


def watch(host: NitroHost, enclave: dict[str, Any], until: str) -> str:
    """Read the console until it has shown a line, as somebody who looks and then presses Ctrl-C."""
    line = f"nitro-cli console --enclave-id {enclave['EnclaveID']}"
    shown = list[str]()
    with subprocess.Popen(
        shlex.split(line),
        cwd=host.top,
        env=host.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as console:
        assert console.stdout is not None
        limit = threading.Timer(LIMIT, console.kill)
        limit.start()
        try:
            for text in console.stdout:
                shown.append(text.rstrip())
                if until in text:
                    break
        finally:
            limit.cancel()
            console.kill()
    return "\n".join(shown)
