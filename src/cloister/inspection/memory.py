"""The guest's memory as it is mapped by a process: /proc/PID/smaps (proc(5))."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloister.inspection.finding import Finding, judge
from cloister.inspection.process import Process

GUEST_MEMORY: Final = "/memfd:guest-memory"
_FIRST_LINE: Final = re.compile(r"^[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ \d+ *(.*)$")


@dataclass(slots=True)
class Mapping:
    """One row of smaps; sizes in KiB."""

    permissions: str
    name: str
    sizes: dict[str, int] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()


def read_mappings(smaps: str) -> list[Mapping]:
    """Parse /proc/PID/smaps."""
    mappings: list[Mapping] = []
    for line in smaps.splitlines():
        first = _FIRST_LINE.match(line)
        if first:
            mappings.append(Mapping(first[1], first[2]))
            continue
        name, _, value = line.partition(":")
        if name == "VmFlags":
            mappings[-1].flags = frozenset(value.split())
        elif value.endswith(" kB"):
            mappings[-1].sizes[name] = int(value.split()[0])
    return mappings


def inspect_guest_memory(process: Process) -> list[Finding]:
    """Look at the guest's memory in a process, and at what the kernel may do with all of the process's."""
    mappings = read_mappings(process.text("smaps"))
    guest = [one for one in mappings if one.name.startswith(GUEST_MEMORY)]
    return [
        _size(guest),
        _swap(process, guest),
        _dumps(process, guest),
        _merging(mappings),
    ]


def host_has_swap() -> bool:
    """Say whether this host has anything to swap to."""
    rows = Path("/proc/meminfo").read_text().splitlines()
    return any(row.startswith("SwapTotal:") and int(row.split()[1]) > 0 for row in rows)


def _size(guest: list[Mapping]) -> Finding:
    def total(name: str) -> int:
        return sum(one.sizes.get(name, 0) for one in guest)

    pages = sorted({one.sizes.get("KernelPageSize", 0) for one in guest})
    used = total("Rss") + total("Shared_Hugetlb") + total("Private_Hugetlb")
    measured = (
        f"{total('Size') // 1024} MiB mapped of memory files, {used} KiB "
        f"in use, pages of {' and '.join(map(str, pages)) or '?'} KiB"
    )
    shared = all(one.permissions.endswith("s") for one in guest)
    return judge(
        "guest memory",
        measured if guest else "none of its mappings is a guest's memory file",
        None if guest else "the guest's memory is not the supervisor's to overwrite",
        None if shared else "the guest's memory is mapped privately: the supervisor cannot overwrite it",
    )


def _swap(process: Process, guest: list[Mapping]) -> Finding:
    locked = bool(guest) and all({"lo", "ht"} & one.flags for one in guest)  # huge pages stay too
    swapped = process.status.get("VmSwap", "0 kB")
    swap = host_has_swap()
    measured = (
        f"guest memory {'locked' if locked else 'not locked'}, {swapped} of the process swapped out, "
        f"this host has {'swap' if swap else 'no swap'}"
    )
    return judge("swap", measured, None if locked or not swap else "the guest's memory may be swapped out")


def _dumps(process: Process, guest: list[Mapping]) -> Finding:
    limit = process.core_limit()
    kept_out = all("dd" in one.flags for one in guest)
    measured = f"core limit {limit}, guest memory {'kept out of' if kept_out else 'part of'} dumps"
    return judge(
        "core dumps",
        measured,
        None if limit == "0" else "a crash may write a core dump",
        None if kept_out else "a dump would hold the guest's memory",
    )


def _merging(mappings: list[Mapping]) -> Finding:
    mergeable = [one for one in mappings if "mg" in one.flags]
    return judge(
        "page merging",
        f"{len(mergeable)} of {len(mappings)} mappings may be merged with others' (KSM)",
        "equal pages of others can be found out by timing" if mergeable else None,
    )
