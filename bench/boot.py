"""Seconds from run-enclave to the first line, against bare QEMU; and the memory that an enclave costs."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
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

    def seconds_to_first_line(self) -> tuple[float, dict[str, float]]:
        """Run, wait for the marker on the console, end; return the seconds and the memory in MiB."""
        arrived: list[float] = []
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
        self.nitro_cli("terminate-enclave", "--all")
        if not arrived:
            raise RuntimeError("the enclave's program never said its first line")
        return arrived[0] - start, memory

    def _watch_console(self, arrived: list[float]) -> None:
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
                        if MARKER in seen:
                            arrived.append(time.perf_counter())
                            return
            time.sleep(0.002)


def memory_of(supervisor: int) -> dict[str, float]:
    """Return a supervisor's peak memory and its QEMU's, without the guest's own pages, in MiB."""
    children = [
        int(path.name) for path in Path("/proc").glob("[0-9]*") if _descends(int(path.name), supervisor)
    ]
    emulators = [pid for pid in children if _status(pid, "Name").startswith("qemu")]
    own = _kib(supervisor, "VmHWM") - _kib(supervisor, "RssShmem")
    emulator = max((_kib(pid, "RssAnon") + _kib(pid, "RssFile") for pid in emulators), default=0)
    return {"supervisor": own / 1024, "emulator": emulator / 1024}


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
    """Print both medians, their ratio, and the memory."""
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
        accel = ["-accel", "tcg,thread=multi", "-cpu", EMULATED_PROCESSOR[jail.architecture]]
        if footing.accelerator == "kvm":
            accel = ["-accel", "kvm", "-cpu", "host"]
        machine = bare_machine(jail.directory, memory_mib=MEMORY_MIB, cpus=CPUS, accel=accel)
        words = [*machine, *bare_guest(kernel, initrd, cmdline=kit.cmdline.strip())]
        enclave = EnclaveBench(scratch, image)
        seconds_to_first_line(words)  # once each, so that caches are warm for both
        enclave.seconds_to_first_line()
        ours, rival, memory = [], [], []
        for _ in range(pairs):
            rival.append(seconds_to_first_line(words))
            taken, used = enclave.seconds_to_first_line()
            ours.append(taken)
            memory.append(used)
    mine, bare = statistics.median(ours), statistics.median(rival)
    print(
        f"boot: run-enclave to the first line {mine:.2f} s; bare QEMU {bare:.2f} s; ratio {mine / bare:.2f}"
    )
    print(f"      (medians of {pairs} alternating pairs; {MEMORY_MIB} MiB, {CPUS} vCPUs)")
    for part in ("supervisor", "emulator"):
        print(f"memory: {part} {statistics.median(m[part] for m in memory):.1f} MiB above the guest's own")
