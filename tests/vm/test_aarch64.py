"""An aarch64 enclave, whatever this host is: examples/hello, from its source to its end."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloister.eif import Image
from cloister.kit import KitMissingError, find_kit
from cloister.places import current_places
from cloister.rootfs import EXAMPLES
from cloister.vmm import JailMissingError, find_jail

pytestmark = pytest.mark.vm
HELLO = EXAMPLES / "hello"
LINES_SECONDS = 90.0
LEAVE = r"""
#include <stdio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
int main(void)
{
    struct utsname us;
    uname(&us);
    printf("machine=%s processors=%ld\n", us.machine, sysconf(_SC_NPROCESSORS_ONLN));
    printf("time=%ld\n", (long)time(NULL));
    return 7;
}
"""


@dataclass(frozen=True)
class Commands:
    """The two commands as a user types them, with directories of their own."""

    environment: dict[str, str]
    logs: Path

    def cloister(self, *words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run cloister and insist on its exit code."""
        return self._run("cloister.cli.main", words, code)

    def nitro_cli(self, *words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run nitro-cli and insist on its exit code."""
        return self._run("cloister.cli.nitro.main", words, code)

    def start(self, image: Path, *words: str) -> dict[str, Any]:
        """Run an image and return its description."""
        size = ["--cpu-count", "2", "--memory", "256"]
        done = self.nitro_cli("run-enclave", *size, "--eif-path", image, *words)
        description: dict[str, Any] = json.loads(done.stdout)
        return description

    def _run(self, module: str, words: Sequence[str | Path], code: int) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            env=self.environment, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Give the commands a place to work, and end what they started."""
    try:
        find_kit(current_places(), "aarch64")
        find_jail(current_places(), "aarch64")
    except (KitMissingError, JailMissingError) as error:
        pytest.skip(str(error))
    top = tmp_path_factory.mktemp("aarch64")
    places = {"NITRO_CLI_SOCKETS_PATH": str(top / "run"), "NITRO_CLI_LOGS_PATH": str(top / "logs")}
    commands = Commands(os.environ | places, top / "logs")
    yield commands
    commands.nitro_cli("terminate-enclave", "--all")


@pytest.fixture(scope="module")
def hello(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build examples/hello for aarch64 and return the image."""
    image = tmp_path_factory.mktemp("image") / "hello.eif"
    commands.cloister("image", "build", HELLO, "--arch", "aarch64", "--output", image)
    return image


def logged(commands: Commands) -> str:
    """Return what the supervisors have written."""
    return "".join(path.read_text() for path in commands.logs.rglob("*.log"))


def attest(commands: Commands, cid: int) -> bytes:
    """Ask the enclave for a document, as the example's README says."""
    done = subprocess.run(
        [sys.executable, HELLO / "attest.py", str(cid)],
        env=commands.environment, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_image_is_laid_out_as_awss_are(hello: Path) -> None:
    """The header says aarch64 and the kernel section is a flat Image with its magic number."""
    image = Image.from_buffer(memoryview(hello.read_bytes()))
    assert image.architecture == "aarch64"
    assert bytes(image.kernel[0x38:0x3C]) == b"ARM\x64"


def test_a_debug_enclave_prints_its_lines_on_the_virtio_console(commands: Commands, hello: Path) -> None:
    """Kernel and program are read through one console, as on x86_64."""
    enclave = commands.start(hello, "--debug-mode")
    reader = subprocess.Popen(
        [sys.executable, "-m", "cloister.cli.nitro.main", "console", "--enclave-id", enclave["EnclaveID"]],
        env=commands.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with reader:
        assert reader.stdout is not None
        deadline, seen = time.monotonic() + LINES_SECONDS, ""
        try:
            while "[   2] Hello from the enclave side!" not in seen:
                assert time.monotonic() < deadline, seen[-2000:]
                seen += reader.stdout.readline()
        finally:
            reader.kill()
    commands.nitro_cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
    assert "Run /init as init process" in seen


def test_a_production_enclave_attests_itself(commands: Commands, hello: Path, tmp_path: Path) -> None:
    """Its document is verified against the registers of the image, which the build printed."""
    enclave = commands.start(hello)
    document = tmp_path / "hello.cose"
    document.write_bytes(attest(commands, enclave["EnclaveCID"]))
    registers = json.loads(commands.nitro_cli("describe-eif", "--eif-path", hello).stdout)["Measurements"]
    expected = [f"--pcr={number}={registers[f'PCR{number}']}" for number in range(3)]
    commands.cloister("attestation", "verify", document, *expected)
    commands.cloister("attestation", "verify", document, f"--pcr=0={secrets.token_hex(48)}", code=1)
    commands.nitro_cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])


def test_the_exit_status_of_the_program_is_known(commands: Commands, tmp_path: Path) -> None:
    """A program of one's own, from a recipe, ends the enclave; its status is told as on x86_64."""
    (tmp_path / "leave.c").write_text(LEAVE)
    (tmp_path / "enclave.toml").write_text('[programs]\n"leave" = "leave.c"\n[image]\ncmd = ["/leave"]\n')
    image = tmp_path / "leave.eif"
    commands.cloister("image", "build", tmp_path, "--arch", "aarch64", "--output", image)
    size = ["--cpu-count", "2", "--memory", "256"]
    done = commands.nitro_cli("run-enclave", *size, "--eif-path", image, "--debug-mode", "--attach-console")
    assert "machine=aarch64 processors=2" in done.stdout
    assert abs(int(done.stdout.partition("time=")[2].split()[0]) - time.time()) < 90
    deadline = time.monotonic() + 10
    while "the program exited with status 7" not in (log := logged(commands)):
        assert time.monotonic() < deadline, log
        time.sleep(0.05)
