"""Seconds from run-enclave to the first line, against bare QEMU; and the memory that an enclave costs."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNIX, socket

from bare_qemu import MARKER, PATIENCE, bare_guest, bare_machine, initramfs, seconds_to_first_line
from cloister.build import Recipe, build_image
from cloister.kit import find_kit
from cloister.places import current_places
from cloister.vmm import EMULATED_PROCESSOR, find_footing, find_jail, unpack_kernel

MEMORY_MIB = 512
CPUS = 2
HERE = Path(__file__).parent
NITRO_CLI = Path(sys.executable).with_name("nitro-cli")
STAGES = {
    "command and supervisor, until QEMU starts": b"",
    "QEMU, until the kernel speaks": b"Linux version",
    "kernel, until it starts the init": b"Run /init as init process",
    "init, until the program speaks": MARKER,
}
"""Each stage and what is on the console at its end; the first ends with QEMU's start, known to 10 ms."""
PLAIN = "console=ttyS0 reboot=t panic=-1"


@dataclass(frozen=True)
class Run:
    """One run-enclave: when each stage was over, in seconds, and the memory used, in MiB."""

    stages: dict[str, float]
    memory: dict[str, float]

    @property
    def seconds(self) -> float:
        """From the command to the program's first line."""
        return self.stages[list(STAGES)[-1]]


class EnclaveBench:
    """One enclave at a time, in a run directory of its own."""

    def __init__(self, scratch: Path, image: Path) -> None:
        self.run = scratch / "run"
        self.image = image
        self.environment = os.environ | {
            "NITRO_CLI_SOCKETS_PATH": str(self.run),
            "NITRO_CLI_LOGS_PATH": str(scratch / "logs"),
        }

    def nitro_cli(self, *words: str) -> str:
        """Run one nitro-cli command and return what it printed."""
        done = subprocess.run(
            [str(NITRO_CLI), *words], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"nitro-cli {' '.join(words)}: {done.stderr}")
        return done.stdout

    def run_once(self) -> Run:
        """Run, wait for the marker on the console, end."""
        arrived: dict[bytes, float] = {}
        watcher = threading.Thread(target=self._watch_console, args=(arrived,), daemon=True)
        watcher.start()
        start = time.perf_counter()
        described = json.loads(
            self.nitro_cli(
                "run-enclave", "--eif-path", str(self.image), "--cpu-count", str(CPUS),
                "--memory", str(MEMORY_MIB), "--debug-mode",
            )
        )  # fmt: skip
        watcher.join(PATIENCE)
        memory = memory_of(described["ProcessID"])
        arrived[b""] = emulator_start(described["ProcessID"])
        self.nitro_cli("terminate-enclave", "--all")
        if MARKER not in arrived:
            raise RuntimeError("the enclave's program never said its first line")
        return Run({stage: arrived[sign] - start for stage, sign in STAGES.items()}, memory)

    def _watch_console(self, arrived: dict[bytes, float]) -> None:
        deadline = time.perf_counter() + PATIENCE
        while time.perf_counter() < deadline:
            for path in self.run.glob("vsock/0/*"):
                with socket(AF_UNIX) as console:
                    try:
                        console.connect(str(path))
                    except OSError:
                        continue
                    seen = b""
                    while piece := console.recv(65536):
                        seen += piece
                        for sign in STAGES.values():
                            if sign and sign in seen:
                                arrived.setdefault(sign, time.perf_counter())
                        if MARKER in seen:
                            return
            time.sleep(0.002)


def memory_of(supervisor: int) -> dict[str, float]:
    """Return a supervisor's peak memory and its QEMU's, without the guest's own pages, in MiB."""
    emulators = emulators_of(supervisor)
    own = _kib(supervisor, "VmHWM") - _kib(supervisor, "RssShmem")
    emulator = max((_kib(pid, "RssAnon") + _kib(pid, "RssFile") for pid in emulators), default=0)
    return {"supervisor": own / 1024, "emulator": emulator / 1024}


def emulators_of(supervisor: int) -> list[int]:
    """Return the QEMU processes below a supervisor."""
    processes = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in processes if _descends(pid, supervisor) and _status(pid, "Name")[:4] == "qemu"]


def emulator_start(supervisor: int) -> float:
    """Return when QEMU's process was made, on the clock of `time.perf_counter`."""
    (emulator,) = emulators_of(supervisor)
    ticks = int(Path(f"/proc/{emulator}/stat").read_text().rpartition(")")[2].split()[19])
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.perf_counter() - since


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        pid = int(_status(pid, "PPid") or 0)
        if pid == ancestor:
            return True
    return False


def _status(pid: int, field: str) -> str:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{field}:")), "")


def _kib(pid: int, field: str) -> int:
    return int((_status(pid, field) or "0").split()[0])


def build_program(scratch: Path) -> tuple[Path, Path]:
    """Compile the program once; return it as a bare initramfs and as a root filesystem."""
    root = scratch / "root"
    root.mkdir()
    subprocess.run(["gcc", "-static", "-Os", "-s", "-o", root / "init", HERE / "first_line.c"], check=True)
    program = (root / "init").read_bytes()
    (scratch / "bare.cpio").write_bytes(initramfs([("dev", 0o40755, b""), ("init", 0o100755, program)]))
    return scratch / "bare.cpio", root


def bench_boot(pairs: int = 10) -> None:
    """Print the medians, their ratios, what each stage takes, and the memory."""
    places = current_places()
    kit, jail = find_kit(places), find_jail(places)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        initrd, root = build_program(scratch)
        elf = unpack_kernel(kit.kernel.read_bytes())
        assert elf is not None, "the kit's kernel has no PVH entry"
        kernel = scratch / "vmlinux"
        kernel.write_bytes(elf)
        image = scratch / "bench.eif"
        build_image(root, image, kit=kit, recipe=Recipe(cmd=["/init"]))
        with kernel.open("rb") as file:
            footing = find_footing(places, jail, file.fileno, environ=os.environ)
        rivals = {}
        for name, processor, cmdline in (
            ("as it comes", "max", PLAIN),
            ("with all that we know", EMULATED_PROCESSOR[jail.architecture], kit.cmdline.strip()),
        ):
            accel = ["-accel", "tcg,thread=multi", "-cpu", processor]
            if footing.accelerator == "kvm":
                accel = ["-accel", "kvm", "-cpu", "host"]
            machine = bare_machine(jail.directory, memory_mib=MEMORY_MIB, cpus=CPUS, accel=accel)
            rivals[name] = [*machine, *bare_guest(kernel, initrd, cmdline=cmdline)]
        _compare(EnclaveBench(scratch, image), rivals, pairs)


def _compare(enclave: EnclaveBench, rivals: dict[str, list[str]], rounds: int) -> None:
    """Measure all in turn, after once each, so that caches are warm for everybody, and print."""
    for words in rivals.values():
        seconds_to_first_line(words)
    enclave.run_once()
    bare: dict[str, list[float]] = {name: [] for name in rivals}
    runs = []
    for _ in range(rounds):
        for name, words in rivals.items():
            bare[name].append(seconds_to_first_line(words))
        runs.append(enclave.run_once())
    mine = statistics.median(run.seconds for run in runs)
    print(f"boot: run-enclave to the first line {mine:.2f} s")
    for name, seconds in bare.items():
        rival = statistics.median(seconds)
        print(f"      bare QEMU {name} {rival:.2f} s; ratio {mine / rival:.2f}")
    print(f"      (medians of {rounds} rounds, in turn; {MEMORY_MIB} MiB, {CPUS} vCPUs)")
    before = 0.0
    for stage in STAGES:
        over = statistics.median(run.stages[stage] for run in runs)
        print(f"      {over - before:.2f} s {stage}")
        before = over
    for part in ("supervisor", "emulator"):
        used = statistics.median(run.memory[part] for run in runs)
        print(f"memory: {part} {used:.1f} MiB above the guest's own")
