"""After the last enclave: look whether anything of any of them is still there.

Enclaves are known by what only they have: the run directory in their processes' environment, the processes
found while they ran, the memory files those held, their sockets, their ids in mounts and control groups.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told apart from a later one with the same id by when it started."""

    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class Traces:
    """What running enclaves were seen to use."""

    processes: frozenset[Process]
    memory_files: frozenset[tuple[int, int]]
    """Device and inode of every memfd."""
    ids: tuple[str, ...]

    def seen(self, kind: str) -> str:
        """Say how many of a kind there were, where they were counted."""
        counts = {"processes": len(self.processes), "memory files": len(self.memory_files)}
        return f"{counts[kind]} while they ran, " if kind in counts else ""


def observe(supervisors: list[int], ids: list[str]) -> Traces:
    """Record the supervisors, all their descendants, and the memory files they hold."""
    family = _descendants(set(supervisors))
    processes = frozenset(process for pid in family if (process := _identify(pid)) is not None)
    files = frozenset(key for pid in family for key in _memory_files(pid))
    return Traces(processes, files, tuple(ids))


def find_leftovers(traces: Traces, *, run: Path, scratch: list[Path]) -> dict[str, list[str]]:
    """Return what is left, by kind; every list is empty when all is gone."""
    return {
        "processes": [
            *(f"process {process.pid}" for process in traces.processes if _identify(process.pid) == process),
            *(f"process {pid} with our environment" for pid in belonging(run)),
        ],
        "sockets": [*_sockets(run)],
        "mounts": [line for line in _lines(PROC / "self/mountinfo") if _mentions(line, traces, run)],
        "control groups": [str(path) for path in _groups() if any(name in path.name for name in traces.ids)],
        "memory files": [
            f"memfd inode {inode} held by process {pid}"
            for pid in _pids()
            for device, inode in _memory_files(pid)
            if (device, inode) in traces.memory_files
        ],
        "scratch files": [str(path) for place in scratch for path in sorted(place.glob("*"))],
    }


def _pids() -> Iterator[int]:
    for path in PROC.iterdir():
        if path.name.isdigit():
            yield int(path.name)


def _identify(pid: int) -> Process | None:
    """Return a live process; a zombie is gone (proc_pid_stat(5): fields 3 and 22)."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else Process(pid, fields[19])


def _descendants(pids: set[int]) -> set[int]:
    parents: dict[int, int] = {}
    for pid in _pids():
        try:
            parents[pid] = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _memory_files(pid: int) -> Iterator[tuple[int, int]]:
    try:
        for link in (PROC / str(pid) / "fd").iterdir():
            if str(link.readlink()).startswith("/memfd:"):
                status = link.stat()
                yield status.st_dev, status.st_ino
    except OSError:
        return


def belonging(run: Path) -> list[int]:
    """Return the processes of a run directory's enclaves, ended ones and the demo's own services aside."""
    wanted = f"NITRO_CLI_SOCKETS_PATH={run}".encode()
    found = []
    for pid in _pids():
        try:
            environment = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
            name = (PROC / str(pid) / "cmdline").read_bytes()
        except OSError:
            continue
        if wanted in environment and b"vsock-proxy" not in name and b"\0kms\0" not in name:
            found.append(pid)
    return found


def _sockets(run: Path) -> Iterator[str]:
    """Yield control sockets, enclaves' address directories, and bound names below the run directory."""
    yield from (str(path) for path in run.glob("*.sock"))
    for directory in (run / "vsock").glob("*"):
        if directory.name != "3":
            yield from (str(path) for path in directory.glob("*") if path.is_socket())
    for line in _lines(PROC / "net/unix"):
        if f"{run}/" in line and f"{run}/vsock/3/" not in line:
            yield line.rpartition(" ")[2]


def _mentions(line: str, traces: Traces, run: Path) -> bool:
    return str(run) in line or any(name in line for name in traces.ids)


def _groups() -> Iterator[Path]:
    for directory, names, _ in os.walk(CGROUPS):
        yield from (Path(directory, name) for name in names)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
