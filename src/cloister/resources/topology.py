"""Which CPUs share a core and a NUMA node, as sysfs tells (sysfs-devices-system-cpu of the kernel's ABI)."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.resources.config import AllocatorError

SYSFS: Final = Path("/sys")
MAX_CPU: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Core:
    """One physical core: its NUMA node and its usable CPUs, ascending."""

    node: int
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """The host's cores, by their first CPU."""

    cores: tuple[Core, ...]

    @property
    def cpus(self) -> tuple[int, ...]:
        """Every usable CPU."""
        return tuple(sorted(cpu for core in self.cores for cpu in core.cpus))

    @property
    def threads_per_core(self) -> int:
        """CPUs of a whole core."""
        return max(len(core.cpus) for core in self.cores)

    @property
    def nodes(self) -> tuple[int, ...]:
        """NUMA nodes with CPUs."""
        return tuple(sorted({core.node for core in self.cores}))

    def core_of(self, cpu: int) -> Core:
        """Return the core a usable CPU belongs to."""
        return next(core for core in self.cores if cpu in core.cpus)


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Read ``2,3,6-9`` and return the ids ascending; raises ValueError."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"\s*([0-9]{1,5})\s*(?:-\s*([0-9]{1,5})\s*)?", part, re.ASCII)
        if match is None:
            raise ValueError(f"{part[:40]!r} is no CPU and no range of CPUs")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= MAX_CPU:
            raise ValueError(f"{part[:40]!r} is no range of CPUs")
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Write ids as the kernel reads them."""
    return ",".join(map(str, sorted(cpus)))


def read_topology(sysfs: Path, usable: Collection[int] | None = None) -> Topology:
    """Read the online CPUs, of them only ``usable`` where given; raises AllocatorError."""
    try:
        online = set(parse_cpu_list((sysfs / "devices/system/cpu/online").read_text()))
        if usable is not None:
            online &= set(usable)
        nodes = _nodes(sysfs / "devices/system/node")
        cores = {}
        for cpu in sorted(online):
            siblings = sysfs / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            cpus = tuple(sorted(online & set(parse_cpu_list(siblings.read_text()))))
            cores[cpus] = Core(nodes.get(cpu, 0), cpus)
    except (OSError, ValueError) as error:
        raise AllocatorError(f"The CPUs' topology under {sysfs} cannot be read: {error}.") from None
    if not cores:
        raise AllocatorError("Failed to get the number of CPUs.")
    return Topology(tuple(cores.values()))


def _nodes(directory: Path) -> dict[int, int]:
    """Return each CPU's node; none where the kernel knows no NUMA."""
    nodes = {}
    for path in directory.glob("node[0-9]*"):
        text = (path / "cpulist").read_text().strip()
        for cpu in parse_cpu_list(text) if text else ():
            nodes[cpu] = int(path.name.removeprefix("node"))
    return nodes
