"""Images as AWS's tools build them run unmodified: another kernel, its NSM driver, an init like AWS's."""

import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.attestation import Document, Expected, verify
from cloister.kit import KitMissingError, find_kit
from cloister.places import current_places
from cloister.transport import RefusedError, open_stream
from cloister.trust import Trust, initialise
from cloister.vmm import Jail, has_pvh_entry, unpack_kernel
from foreign.blobs import Blobs, BlobsMissingError, find_blobs
from foreign.image import CMDLINES, HERE, ForeignImage, boot_ramdisk, compile_static, customer_ramdisk

pytestmark = pytest.mark.vm

PORT = 5000
COMMAND = ("program", "one two", "")
ENVIRONMENT = ("PATH=/bin", "GREETING=a=b c")


@dataclass(frozen=True)
class Host:
    """One user's directories, with the images in them."""

    top: Path
    trust: Trust
    images: dict[str, ForeignImage]

    def cli(self, *words: str | Path) -> str:
        """Run nitro-cli, which has to succeed, and return its standard output."""
        command = [sys.executable, "-m", "cloister.cli.nitro.main", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, name: str, *options: str, cpus: int = 1) -> tuple[dict[str, Any], str]:
        """Start an enclave; return its description, and what its console printed if that was attached."""
        words = ("--cpu-count", str(cpus), "--memory", "256", "--eif-path", self.top / f"{name}.eif")
        out = self.cli("run-enclave", *words, *options)
        description, end = json.JSONDecoder().raw_decode(out)
        return description, out[end:].replace("\r", "")

    def describe(self) -> list[dict[str, Any]]:
        """Return what describe-enclaves prints."""
        enclaves: list[dict[str, Any]] = json.loads(self.cli("describe-enclaves"))
        return enclaves

    def document(self, enclave: dict[str, Any], pcrs: dict[str, str] | None) -> Document:
        """Ask the program for a document and verify it; without PCRs they have to be those of debug mode."""
        nonce = secrets.token_bytes(32)
        with closing(reach_program(enclave)) as stream:
            stream.sendall(bytes([len(nonce)]) + nonce)
            document = b"".join(iter(lambda: stream.recv(1 << 16), b""))
        wanted = {int(name[3:]): bytes.fromhex(value) for name, value in (pcrs or {}).items()}
        expect = Expected(
            pcrs=wanted or dict.fromkeys(range(3), bytes(48)), nonce=nonce, allow_debug=pcrs is None
        )
        return verify(document, roots=[self.trust.root_certificate], now=datetime.now(UTC), expect=expect)

    def told(self, enclave: dict[str, Any]) -> str:
        """Return what the logs hold about an enclave that has ended, waiting for its end."""
        deadline = time.monotonic() + 60
        while Path(f"/proc/{enclave['ProcessID']}").exists():
            assert time.monotonic() < deadline, "the enclave did not end"
            time.sleep(0.05)
        files = [path for path in (self.top / "logs").rglob("*") if enclave["EnclaveID"] in str(path)]
        return "".join(path.read_text() for path in files if path.is_file())


def reach_program(enclave: dict[str, Any]) -> socket.socket:
    """Connect to the program, which AWS's init starts after its heartbeat."""
    deadline = time.monotonic() + 60
    while True:
        try:
            stream = open_stream(enclave["EnclaveCID"], PORT)
        except RefusedError:
            assert time.monotonic() < deadline, "the program does not serve"
            time.sleep(0.05)
        else:
            stream.settimeout(60)
            return stream


@pytest.fixture(scope="module")
def blobs() -> Blobs:
    """Return the foreign kernel of this host."""
    try:
        return find_blobs(current_places())
    except BlobsMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def built(blobs: Blobs, jail: Jail, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Build the images and a root of trust, and move into directories of our own."""
    top = tmp_path_factory.mktemp("foreign")
    init = compile_static(HERE / "init.c", top / "init")
    files = {"bin/program": compile_static(HERE / "program.c", top / "program")}
    boot = boot_ramdisk(init, blobs.read("nsm.ko"))
    customer = customer_ramdisk(files, COMMAND, ENVIRONMENT)
    elf = unpack_kernel(blobs.read("kernel-pvh"))
    assert elf is not None
    plain = ForeignImage(blobs.read("kernel"), (boot, customer), "plain", blobs.release)
    images = {
        "plain": plain,
        "elf": replace(plain, kernel=elf),
        # AWS's panic=30 would keep the processor busy for half a minute: its init's end is what matters here
        "broken": replace(
            plain,
            kernel=blobs.read("kernel-pvh"),
            ramdisks=(boot, customer_ramdisk(files, COMMAND, None)),
            cmdline=plain.cmdline.replace("panic=30", "panic=1"),
        ),
    }
    for name, image in images.items():
        (top / f"{name}.eif").write_bytes(image.to_bytes())
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(top / "state"))
        environment.setenv("NITRO_CLI_SOCKETS_PATH", str(top / "run"))
        environment.setenv("NITRO_CLI_LOGS_PATH", str(top / "logs"))
        places = current_places()
        trust = initialise(
            places.pki, region="local", instance_id="i-0123456789abcdef0", now=datetime.now(UTC)
        )
        yield Host(top, trust, images)


@pytest.fixture(scope="module")
def arm_image(built: Host) -> ForeignImage:
    """Build an aarch64 image around our own kernel: AWS's layout and command line, an init like AWS's."""
    try:
        kit = find_kit(current_places(), "aarch64")
    except KitMissingError as error:
        pytest.skip(str(error))
    init = compile_static(HERE / "init.c", built.top / "init-aarch64", "aarch64")
    program = compile_static(HERE / "program.c", built.top / "program-aarch64", "aarch64")
    ramdisks = (boot_ramdisk(init, None), customer_ramdisk({"bin/program": program}, COMMAND, ENVIRONMENT))
    # our kernel has these two for version 2 alone, and an init like AWS's mounts what is enabled
    cmdline = f"{CMDLINES['aarch64']} cgroup_disable=memory,cpuset"
    release = kit.kernel_version
    image = ForeignImage(kit.kernel.read_bytes(), ramdisks, "arm", release, cmdline, "aarch64")
    (built.top / "arm.eif").write_bytes(image.to_bytes())
    return image


@pytest.fixture
def host(built: Host) -> Iterator[Host]:
    """Give the host to one test and leave no enclave on it."""
    try:
        yield built
    finally:
        built.cli("terminate-enclave", "--all")


def test_kernels_take_their_own_roads(built: Host) -> None:
    """One is started by firmware, as AWS's is; one is an ELF file as it stands; one is unpacked to that."""
    kernels = {name: image.kernel for name, image in built.images.items()}
    assert unpack_kernel(kernels["plain"]) is None
    assert unpack_kernel(kernels["elf"]) is None
    assert unpack_kernel(kernels["broken"]) == kernels["elf"]
    assert has_pvh_entry(kernels["elf"])


def test_image_runs_unmodified_and_proves_what_it_is(host: Host) -> None:
    """In production, on two CPUs: RUNNING, documents with the image's own PCRs, the end with its program."""
    enclave, _ = host.run("plain", cpus=2)
    registers = host.images["plain"].registers()
    (described,) = host.describe()
    assert described["State"] == "RUNNING"
    assert described["Flags"] == "NONE"
    assert described["NumberOfCPUs"] == 2
    assert registers.items() <= described["Measurements"].items()
    host.document(enclave, registers)
    with closing(reach_program(enclave)) as stream:
        stream.sendall(bytes([0]))
    assert "reset itself" in host.told(enclave)
    assert host.describe() == []


def test_debug_mode_shows_the_console_and_zero_registers(host: Host) -> None:
    """In debug mode the console has the kernel's and the program's lines, and documents prove nothing."""
    enclave, _ = host.run("elf", "--debug-mode")
    assert host.document(enclave, None).debug
    words = ("--enclave-id", enclave["EnclaveID"], "--disconnect-timeout", "2")
    console = host.cli("console", *words).replace("\r", "").splitlines()
    assert any("Linux version" in line and "-foreign" in line for line in console)
    values = dict(line.split("=", 1) for line in console if "=" in line and " " not in line.split("=")[0])
    arguments = [line.partition("=")[2] for line in console if line.startswith("argument=")]
    assert arguments == list(COMMAND)
    assert values["GREETING"] == "a=b c"
    assert values["module"].startswith("nsm ")
    assert values["generator"] == "nsm-hwrng"
    mounted = {line.split()[1] for line in console if line.startswith("mount=cgroup ")}
    controllers = [line.partition("=")[2].split() for line in console if line.startswith("controller=")]
    enabled = {name for name, _, _, on in controllers[1:] if on == "1"}
    assert {"cpuset", "memory", "pids", "freezer"} <= enabled
    assert mounted == {f"/sys/fs/cgroup/{name}" for name in enabled}
    host.cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
    assert host.describe() == []


def test_failing_start_is_explained(host: Host) -> None:
    """An init that finds no /env dies after its heartbeat: the console says why, the log that it failed."""
    enclave, console = host.run("broken", "--attach-console")
    assert "Could not open /env file" in console
    assert "Kernel panic - not syncing: Attempted to kill init!" in console
    told = host.told(enclave)
    assert "panic" in told or "Could not open /env file" in told
    assert host.describe() == []


def test_image_for_arm_runs_too(host: Host, arm_image: ForeignImage) -> None:
    """An image whose header says aarch64 finds its console, its devices and the way out, like the others."""
    enclave, _ = host.run("arm", "--debug-mode")
    (described,) = host.describe()
    assert arm_image.registers().items() <= described["Measurements"].items()
    assert host.document(enclave, None).debug
    console = host.cli("console", "--enclave-id", enclave["EnclaveID"], "--disconnect-timeout", "2")
    assert "GREETING=a=b c" in console
    with closing(reach_program(enclave)) as stream:
        stream.sendall(bytes([0]))
    assert host.told(enclave)
    assert host.describe() == []
