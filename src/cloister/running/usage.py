"""What enclaves use, measured from ``/proc``: processor time of their processes, and where memory went.

Fields: proc_pid_stat(5), proc_pid_status(5). A process that goes away while it is looked at is nothing.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloister.control import Record

PROC: Final = Path("/proc")
TICKS: Final = os.sysconf("SC_CLK_TCK")
GUEST_MEMORY: Final = "/memfd:guest-memory"
"""How the supervisor's descriptor of the guest's memory file reads (see ``vmm``)."""
BLOCK: Final = 512
"""Bytes; the unit of st_blocks (inode(7))."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One enclave's counters at one moment."""

    entry: Record
    when: float
    """Monotonic seconds."""
    ticks: int
    """Processor time of supervisor and machine, in clock ticks."""
    vcpu_ticks: dict[str, int]
    """By the name QEMU gives a vCPU's thread."""
    guest_bytes: int
    """Guest memory that is there."""
    guest_size: int
    supervisor_bytes: int
    """The supervisor's own memory: what it maps of the guest's is not counted twice."""
    machine_bytes: int
    """QEMU's and bubblewrap's own."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one enclave used between two samples; percents are of one processor."""

    name: str
    enclave_id: str
    cid: int
    cpu_percent: float
    vcpu_percents: tuple[float, ...]
    guest_bytes: int
    guest_size: int
    supervisor_bytes: int
    machine_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields with nitro-cli's names where it has any; sizes in bytes."""
        return {
            "EnclaveName": self.name,
            "EnclaveID": self.enclave_id,
            "EnclaveCID": self.cid,
            "CPUPercent": round(self.cpu_percent, 1),
            "VCPUPercents": [round(percent, 1) for percent in self.vcpu_percents],
            "GuestMemoryUsed": self.guest_bytes,
            "GuestMemorySize": self.guest_size,
            "SupervisorMemory": self.supervisor_bytes,
            "MachineMemory": self.machine_bytes,
        }


def take_sample(entry: Record) -> Sample | None:
    """Measure a living enclave; None when it has just ended or is another user's."""
    machine = list(_descendants(entry.pid))
    ticks = _ticks(PROC / str(entry.pid))
    memory = _guest_memory(entry.pid)
    if ticks is None or memory is None:
        return None
    return Sample(
        entry,
        time.monotonic(),
        ticks + sum(_ticks(PROC / str(pid)) or 0 for pid in machine),
        dict(thread for pid in machine for thread in _vcpus(pid)),
        *memory,
        _own_bytes(entry.pid),
        sum(_own_bytes(pid) for pid in machine),
    )


def compare(before: Sample, after: Sample) -> Usage:
    """Return what was used between two samples of the same enclave."""
    seconds = max(after.when - before.when, 1e-3)

    def percent(ticks: int) -> float:
        return max(0.0, 100.0 * ticks / TICKS / seconds)

    vcpus = sorted(after.vcpu_ticks)
    return Usage(
        after.entry.name,
        after.entry.enclave_id,
        after.entry.cid,
        percent(after.ticks - before.ticks),
        tuple(percent(after.vcpu_ticks[name] - before.vcpu_ticks.get(name, 0)) for name in vcpus),
        after.guest_bytes,
        after.guest_size,
        after.supervisor_bytes,
        after.machine_bytes,
    )


def _descendants(pid: int) -> Iterator[int]:
    with suppress(OSError, ValueError):
        for task in (PROC / str(pid) / "task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _ticks(directory: Path) -> int | None:
    """Return user and system time of a process or thread (fields 14 and 15)."""
    try:
        fields = (directory / "stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return None


def _vcpus(pid: int) -> Iterator[tuple[str, int]]:
    with suppress(OSError):
        for task in (PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                name = (task / "comm").read_text().strip()
                ticks = _ticks(task)
                if name.startswith("CPU ") and ticks is not None:  # "CPU 0/KVM", "CPU 0/TCG"
                    yield name, ticks


def _own_bytes(pid: int) -> int:
    """Return resident memory without what is shared by memory files (RssAnon and RssFile)."""
    total = 0
    with suppress(OSError, ValueError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in ("RssAnon", "RssFile"):
                total += int(value.split()[0]) << 10
    return total


def _guest_memory(supervisor: int) -> tuple[int, int] | None:
    """Return how much of the guest's memory file is there, and its size."""
    with suppress(OSError):
        for link in (PROC / str(supervisor) / "fd").iterdir():
            with suppress(OSError):
                if str(link.readlink()).startswith(GUEST_MEMORY):
                    status = link.stat()
                    return status.st_blocks * BLOCK, status.st_size
    return None
