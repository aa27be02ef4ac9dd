"""Reserving huge pages on one NUMA node, largest first, all or nothing (nitro-tools 6.3).

What others have reserved is left alone: counts go up by what we need and down by what we had. (The original
sets every count to zero first, which on a host with other users of huge pages would be theft.)
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from cloister.resources.config import AllocatorError


class PageCounts(Protocol):
    """The numbers of huge pages of one node."""

    def sizes(self) -> list[int]:
        """Return the page sizes there are, KiB, largest first."""

    def count(self, size_kib: int) -> int:
        """Return how many pages of a size are reserved."""

    def set_count(self, size_kib: int, count: int) -> None:
        """Ask for a number of pages; the kernel does what it can. Raises AllocatorError."""


class NodePages:
    """A node's numbers in sysfs."""

    def __init__(self, sysfs: Path, node: int) -> None:
        self._directory = sysfs / f"devices/system/node/node{node}/hugepages"
        if not self._directory.is_dir():  # a kernel without NUMA has one place for all
            self._directory = sysfs / "kernel/mm/hugepages"

    def sizes(self) -> list[int]:
        """Return the page sizes there are, KiB, largest first."""
        matches = (re.fullmatch(r"hugepages-([0-9]+)kB", p.name) for p in self._directory.glob("*"))
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def count(self, size_kib: int) -> int:
        """Return how many pages of a size are reserved."""
        return int(self._file(size_kib).read_text())

    def set_count(self, size_kib: int, count: int) -> None:
        """Ask for a number of pages; raises AllocatorError."""
        try:
            self._file(size_kib).write_text(f"{count}\n")
        except OSError:
            raise AllocatorError(
                "Failed to set a number of huge pages. This may indicate insufficient system resources."
            ) from None

    def _file(self, size_kib: int) -> Path:
        return self._directory / f"hugepages-{size_kib}kB/nr_hugepages"


def reserve_pages(pages: PageCounts, memory_mib: int, say: Callable[[str], None]) -> dict[int, int]:
    """Reserve at least this much and return the number of pages of each size; raises AllocatorError."""
    sizes = pages.sizes()
    if not sizes:
        raise AllocatorError("The kernel has no huge pages.")
    before = {size: pages.count(size) for size in sizes}
    left = -(-memory_mib * 1024 // sizes[-1]) * sizes[-1]
    got: dict[int, int] = {}
    try:
        for size in sizes:
            needed = left // size
            if needed:
                pages.set_count(size, before[size] + needed)
                got[size] = max(0, pages.count(size) - before[size])
                left -= got[size] * size
                if got[size]:
                    say(f"- Reserved {got[size]} pages of type: {size}kB.")
    except AllocatorError:
        release_pages(pages, got)
        raise
    if left:
        say("Memory configuration failed, rolling back memory reservations...")
        release_pages(pages, got)
        raise AllocatorError(
            "Failed to configure entire amount of requested memory. This indicates insufficient system "
            "resources."
        )
    return {size: count for size, count in got.items() if count}


def release_pages(pages: PageCounts, had: Mapping[int, int]) -> None:
    """Give reserved pages back; raises AllocatorError where the kernel does not take them."""
    for size, count in had.items():
        if not count:
            continue
        wanted = max(0, pages.count(size) - count)
        pages.set_count(size, wanted)
        if pages.count(size) > wanted:
            raise AllocatorError("Failed to clear huge page(s). Some pages may be in use.")
