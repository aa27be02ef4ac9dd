"""One process as /proc shows it (proc(5)); every reading is taken when asked for."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cloister.errors import CloisterError

NAMESPACES: Final = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
"""Those that keep a process apart; ``time`` only shifts clocks."""
T = TypeVar("T")


class InspectionError(CloisterError):
    """A process cannot be looked at: it is gone, or it is not this user's."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open file."""

    number: int
    target: str
    """What /proc/PID/fd links to: a path, ``socket:[inode]``, ``/memfd:name (deleted)``, ``anon_inode:…``."""

    @property
    def kind(self) -> str:
        """``socket``, ``pipe``, ``memfd NAME``, ``eventfd``…, or the file's path."""
        if self.target.startswith("/memfd:"):
            return f"memfd {self.target.removeprefix('/memfd:').removesuffix(' (deleted)')}"
        if self.target.startswith("anon_inode:"):
            return self.target.removeprefix("anon_inode:").strip("[]").partition(":")[0]
        return self.target.partition(":[")[0] if ":[" in self.target else self.target

    @property
    def inode(self) -> int | None:
        """The inode of a socket or pipe."""
        number = self.target.partition(":[")[2].rstrip("]")
        return int(number) if number.isdigit() else None


@dataclass(frozen=True, slots=True)
class Mount:
    """A row of mountinfo (proc(5))."""

    point: str
    source: str
    """The part of its file system that is seen here."""
    options: frozenset[str]
    kind: str


class Process:
    """Reads /proc/PID; every method raises InspectionError when it may not or cannot."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.path = Path("/proc", str(pid))

    def text(self, name: str) -> str:
        """Return a file of the process."""
        return self._asking(lambda: (self.path / name).read_text(errors="replace"))

    @property
    def status(self) -> dict[str, str]:
        """The fields of /proc/PID/status."""
        rows = (line.partition(":") for line in self.text("status").splitlines())
        return {name: value.strip() for name, _, value in rows}

    def statuses(self) -> list[dict[str, str]]:
        """Return the status of every thread: capabilities, seccomp and processors are each thread's own."""
        found = []
        for thread in self.threads():
            try:
                found.append(thread.status)
            except InspectionError:  # a thread that ended meanwhile
                continue
        return found or [self.status]

    @property
    def parent(self) -> int:
        """The parent's process id."""
        return int(self.status["PPid"])

    @property
    def uid(self) -> int:
        """The effective user, as this process's user namespace calls it."""
        return int(self.status["Uid"].split()[1])

    def capabilities(self, kind: str) -> int:
        """Return what any thread has in a capability set; ``kind`` is Eff, Prm, Inh, Bnd or Amb."""
        held = 0
        for status in self.statuses():
            held |= int(status[f"Cap{kind}"], 16)
        return held

    def namespace(self, kind: str) -> str:
        """Return a namespace's name and inode, ``net:[4026532185]``."""
        return self._asking(lambda: os.readlink(self.path / "ns" / kind))  # noqa: PTH115 -- no path: a name

    def descriptors(self) -> list[Descriptor]:
        """Return the open files."""
        found = []
        for name in self._asking(lambda: os.listdir(self.path / "fd")):  # noqa: PTH208 -- names are numbers
            try:
                found.append(Descriptor(int(name), os.readlink(self.path / "fd" / name)))  # noqa: PTH115
            except FileNotFoundError:  # closed meanwhile
                continue
        return sorted(found, key=lambda one: one.number)

    def mounts(self) -> list[Mount]:
        """Return what is mounted where, as the process sees it."""
        mounts = []
        for line in self.text("mountinfo").splitlines():
            left, _, right = line.partition(" - ")
            fields = left.split()
            mounts.append(Mount(fields[4], fields[3], frozenset(fields[5].split(",")), right.split()[0]))
        return mounts

    def names(self, directory: str) -> list[str]:
        """Return the names in one of the directories below /proc/PID; empty when it is absent."""
        try:
            return sorted(self._asking(lambda: os.listdir(self.path / directory)))  # noqa: PTH208 -- names
        except InspectionError:
            self.stat("root/")  # gone, or not ours, is another matter than absent
            return []

    def stat(self, name: str, *, follow: bool = True) -> os.stat_result:
        """Return the status of a file below /proc/PID."""
        return self._asking(lambda: os.stat(f"{self.path}/{name}", follow_symlinks=follow))  # noqa: PTH116

    def core_limit(self) -> str:
        """Return the hard limit of core dumps, a number of bytes or ``unlimited``."""
        rows = (line for line in self.text("limits").splitlines() if line.startswith("Max core file size"))
        row = next(rows, None)
        if row is None:  # it ended between opening and reading
            raise InspectionError(f"Process {self.pid} is gone.")
        return row.split()[5]

    def threads(self) -> Iterator["Process"]:
        """Yield the threads, each read as a process is."""
        for name in self._asking(lambda: os.listdir(self.path / "task")):  # noqa: PTH208 -- names are numbers
            thread = Process(int(name))
            thread.path = self.path / "task" / name
            yield thread

    def children(self) -> list[int]:
        """Return the process ids of the children, oldest first."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:  # ended meanwhile
                    continue
                if int(fields[1]) == self.pid and fields[0] != "Z":
                    found.append((int(fields[19]), int(entry.name)))  # by start time
        return [pid for _, pid in sorted(found)]

    def _asking(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except PermissionError:
            raise InspectionError(
                f"Process {self.pid} may not be inspected by this user: only its own user and root may read "
                f"all of /proc/{self.pid}."
            ) from None
        except (FileNotFoundError, ProcessLookupError):
            raise InspectionError(f"Process {self.pid} is gone.") from None
