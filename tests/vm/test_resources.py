"""What an enclave has of the host, as the kernel tells: CPUs, pages, cgroup; and that its memory is wiped."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.build import Recipe, build_image
from cloister.kit import Kit
from cloister.resources import Wish, claim_resources
from cloister.resources.topology import read_topology
from cloister.transport import TransportError, open_stream
from cloister.trust import initialise
from cloister.vmm import Jail, processor_threads

pytestmark = pytest.mark.vm

PORT = 5000
SECRET = b"what nobody else may ever read. "
ALLOCATOR = [sys.executable, "-m", "cloister.cli.allocator"]
PROGRAM = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>
int main(void)
{
    size_t size = 1 << 20, length = strlen(SECRET);
    char *secret = malloc(size), order = 0;
    for (size_t i = 0; i < size; i++) secret[i] = SECRET[i % length];
    struct sockaddr_vm here = {.svm_family = AF_VSOCK, .svm_port = 5000, .svm_cid = VMADDR_CID_ANY};
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (bind(listener, (void *)&here, sizeof here) || listen(listener, 1)) return 1;
    int order_from = accept(listener, NULL, NULL);
    if (write(order_from, "r", 1) != 1 || read(order_from, &order, 1) != 1) return 2;
    if (order == 'e') return secret[7] == 'o' ? 9 : 7;
    int panic = open("/proc/sys/vm/panic_on_oom", O_WRONLY);
    if (panic < 0 || write(panic, "2", 1) != 1) return 3;
    for (;;) memset(malloc(size), 1, size);
}
"""


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that has to come true soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@dataclass(frozen=True)
class Running:
    """An enclave and its processes."""

    shown: dict[str, Any]
    told: str
    """What run-enclave said on stderr."""

    @property
    def supervisor(self) -> int:
        """The supervisor's process id."""
        return int(self.shown["ProcessID"])

    @property
    def emulator(self) -> int:
        """QEMU's process id."""
        return child_of(child_of(self.supervisor))

    def status(self, name: str) -> str:
        """Return a line of QEMU's status file."""
        lines = Path(f"/proc/{self.emulator}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))

    def memory(self) -> int:
        """Return a descriptor of our own for the guest's memory file."""
        for entry in Path(f"/proc/{self.supervisor}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if "guest-memory" in str(entry.readlink()):
                    return os.open(entry, os.O_RDONLY)
        pytest.fail("the supervisor holds no memory file")


def child_of(pid: int) -> int:
    """Return a process's only child."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


@dataclass(frozen=True)
class Host:
    """One user's directories and an image."""

    environment: dict[str, str]
    top: Path
    image: Path

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.top / "run"

    def cli(self, *words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run nitro-cli and insist on its exit code."""
        return self.command([sys.executable, "-m", "cloister.cli.nitro.main", *map(str, words)], code)

    def command(self, words: list[str], code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command and insist on its exit code."""
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=250, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, memory: int, cpus: int) -> Running:
        """Start an enclave whose program has written its secret into memory."""
        words = ("--cpu-count", str(cpus), "--memory", str(memory), "--eif-path", self.image)
        done = self.cli("run-enclave", *words)
        return Running(json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="module")
def host(kit: Kit, jail: Jail, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Build an image and a root of trust; see that no enclave and no claim is left."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is absent: the guest's program is compiled here")
    top = tmp_path_factory.mktemp("resources")
    source, program = top / "program.c", top / "root/bin/program"
    source.write_text(f'#define SECRET "{SECRET.decode()}"\n{PROGRAM}')
    program.parent.mkdir(parents=True)
    subprocess.run(["gcc", "-static", "-O1", "-o", program, source], check=True)
    build_image(
        top / "root", top / "program.eif", kit=kit, recipe=Recipe(cmd=["/bin/program"], name="program")
    )
    initialise(
        top / "state/cloister/pki", region="local", instance_id="i-0123456789abcdef0", now=datetime.now(UTC)
    )
    own = {"XDG_STATE_HOME": "state", "NITRO_CLI_SOCKETS_PATH": "run", "NITRO_CLI_LOGS_PATH": "logs"}
    host = Host(os.environ | {name: str(top / path) for name, path in own.items()}, top, top / "program.eif")
    try:
        yield host
    finally:
        host.cli("terminate-enclave", "--all")
        host.command([*ALLOCATOR, "--clear"])
    assert [path.name for path in (host.run / "claims").iterdir()] == [".lock"]


@pytest.fixture(scope="module")
def pool(host: Host) -> dict[str, Any]:
    """Reserve one full core, as this host has them, and 160 MiB."""
    topology = read_topology(Path("/sys"), os.sched_getaffinity(0))
    if len(topology.cores) < 2:
        pytest.skip("a host with one core has no full core for a pool")
    config = host.top / "allocator.yaml"
    config.write_text(f"---\nmemory_mib: 160\ncpu_count: {topology.threads_per_core}\n")
    done = host.command([*ALLOCATOR, "--config", str(config)])
    assert "Successfully allocated Nitro Enclaves resources: 160 MiB" in done.stdout
    shown: dict[str, Any] = json.loads(host.command([*ALLOCATOR, "--show", "--json"]).stdout)["Pool"]
    return shown


@pytest.fixture(scope="module")
def pooled(host: Host, pool: dict[str, Any]) -> Running:
    """Start an enclave that takes all CPUs of the pool and 129 MiB."""
    return host.start(129, len(pool["CPUIDs"]))


def test_each_vcpu_runs_on_its_own_cpu(pooled: Running, pool: dict[str, Any]) -> None:
    """CPUIDs are real: vCPU n is pinned to the n-th of them, QEMU's other threads stay within them."""
    cpus = pooled.shown["CPUIDs"]
    assert sorted(cpus) == pool["CPUIDs"]
    threads = processor_threads(pooled.emulator)
    assert sorted(threads) == list(range(len(cpus)))
    assert [os.sched_getaffinity(threads[number]) for number in sorted(threads)] == [{cpu} for cpu in cpus]
    for task in Path(f"/proc/{pooled.emulator}/task").iterdir():
        assert os.sched_getaffinity(int(task.name)) <= set(cpus)


def test_memory_is_what_is_told(pooled: Running, pool: dict[str, Any]) -> None:
    """On huge pages 129 MiB become 130, in the JSON and in what people read; without them they stay 129."""
    given = 130 if pool["HugePages"] else 129
    assert pooled.shown["MemoryMiB"] == given
    assert f"memory: {given} MiB" in pooled.told
    used = int(pooled.status("HugetlbPages").split()[0])
    assert (used > 0) == bool(pool["HugePages"])
    handle = pooled.memory()
    assert os.fstat(handle).st_size == given << 20
    os.close(handle)


def test_what_an_enclave_has_nobody_else_gets(host: Host, pooled: Running, pool: dict[str, Any]) -> None:
    """A second enclave has no CPU (E29), a greedy one no memory (E27), and the pool cannot be changed."""
    words = ("run-enclave", "--eif-path", host.image, "--cpu-count", str(len(pool["CPUIDs"])), "--memory")
    assert "[ E27 ] Insufficient memory available. User provided `memory` is 64 MB" in (
        host.cli(*words, "64", code=39).stderr
    )
    assert "[ E21 ]" in host.cli(*words[:3], "--cpu-ids", "0", "--memory", "64", code=39).stderr
    assert "[ E22 ]" in host.cli(*words[:3], "--cpu-count", "999", "--memory", "64", code=39).stderr
    assert "at least one enclave currently running" in host.command([*ALLOCATOR, "--clear"], code=1).stdout


def test_other_processes_are_kept_off(pooled: Running, pool: dict[str, Any]) -> None:
    """With cgroup v2 the pool is a partition: only the enclave runs in it, and has no more memory."""
    if pool["Partition"] is None:
        assert any("Other processes are not kept off" in note for note in pool["Notes"])
        pytest.skip("this host's cgroup v2 hierarchy has no cpuset controller")
    partition = Path(pool["Partition"])
    assert (partition / "cpuset.cpus.partition").read_text().strip() == "root"
    assert not os.sched_getaffinity(0) & set(pool["CPUIDs"])
    (group,) = (path for path in partition.iterdir() if path.is_dir())
    assert str(pooled.emulator) in (group / "cgroup.procs").read_text().split()
    assert str(pooled.supervisor) not in (group / "cgroup.procs").read_text().split()
    if (group / "memory.max").exists():
        assert (group / "memory.max").read_text().strip() != "max"
        assert (group / "memory.swap.max").read_text().strip() == "0"


def test_killed_supervisor_frees_what_it_had(host: Host, pooled: Running, pool: dict[str, Any]) -> None:
    """After the next command nothing is left of a killed supervisor's claim, and others can have it."""
    emulator = pooled.emulator
    os.kill(pooled.supervisor, signal.SIGKILL)
    wait_until(lambda: not is_alive(emulator))
    assert json.loads(host.cli("describe-enclaves").stdout) == []
    assert [path.name for path in (host.run / "claims").iterdir()] == [".lock"]
    if pool["Partition"] is not None:
        assert not [path for path in Path(pool["Partition"]).iterdir() if path.is_dir()]
    wish = Wish(130, cpu_count=len(pool["CPUIDs"]))
    claim_resources(host.run, wish, os.sched_getaffinity(0)).close()
    host.command([*ALLOCATOR, "--clear"])
    assert pool["Partition"] is None or not Path(pool["Partition"]).exists()


def end(how: str, host: Host, enclave: Running, stream: socket.socket) -> None:
    """Bring an enclave's end about."""
    match how:
        case "terminate":
            host.cli("terminate-enclave", "--all")
        case "QEMU killed":
            os.kill(enclave.emulator, signal.SIGKILL)
        case "program exit":
            stream.sendall(b"e")
        case "guest panic":
            stream.sendall(b"p")


@pytest.mark.parametrize("ending", ["terminate", "QEMU killed", "program exit", "guest panic"])
def test_memory_is_overwritten_at_every_ending(
    host: Host, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds the memory file of an enclave that has ended reads zeros, where the secret was too."""
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(host.run))
    enclave = host.start(128, 1)
    with listening(enclave) as stream, os.fdopen(enclave.memory(), "rb") as memory:
        check_secrecy(enclave)
        assert SECRET in memory.read()
        end(ending, host, enclave, stream)
        wait_until(lambda: not is_alive(enclave.supervisor))
        memory.seek(0)
        assert memory.read() == bytes(128 << 20)


@contextlib.contextmanager
def listening(enclave: Running) -> Iterator[socket.socket]:
    """Connect to the program, which listens once it has written its secret."""
    deadline = time.monotonic() + 60
    while True:
        try:
            stream = open_stream(int(enclave.shown["EnclaveCID"]), PORT, timeout=10)
            break
        except TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with stream:
        stream.settimeout(60)
        assert stream.recv(1) == b"r"
        yield stream


def check_secrecy(enclave: Running) -> None:
    """QEMU dumps no core; guest memory is neither dumped nor merged, nor swapped where locking is allowed."""
    limits = Path(f"/proc/{enclave.emulator}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    maps = Path(f"/proc/{enclave.emulator}/smaps").read_text().partition("/memfd:guest-memory")[2]
    flags = next(line for line in maps.splitlines() if line.startswith("VmFlags:")).split()
    assert "dd" in flags
    assert "mg" not in flags
    locked = next(line for line in limits.splitlines() if line.startswith("Max locked memory"))
    if locked.split()[3] == "unlimited":  # root may have that, others only where their limit is
        assert "lo" in flags
        assert int(enclave.status("VmLck").split()[0]) > 0
