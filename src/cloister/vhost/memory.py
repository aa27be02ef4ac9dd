"""The guest's memory as the back end sees it: files mapped, every address checked before use.

Follows the vhost-user protocol, SET_MEM_TABLE. Only sealed memory files are taken: a file that can shrink
would let the peer turn any access into a bus error.
"""

import fcntl
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cloister.vhost.faults import DeviceError
from cloister.vhost.messages import MemoryRegion

MAX_MEMORY = 1 << 42  # bytes; far above any enclave, far below what would exhaust address space


@dataclass(frozen=True, slots=True)
class MappedRegion:
    """A row of the memory table with its file and its mapping."""

    region: MemoryRegion
    file: int
    mapping: mmap.mmap
    view: memoryview


class GuestMemory:
    """All of one guest's memory; owns the file descriptors and mappings until ``close``."""

    def __init__(self) -> None:
        self._mapped: tuple[MappedRegion, ...] = ()
        self._ranges: list[tuple[int, int, memoryview]] = []

    @property
    def files(self) -> tuple[int, ...]:
        """The file descriptor behind each region; still owned by this object."""
        return tuple(mapped.file for mapped in self._mapped)

    @property
    def regions(self) -> tuple[MemoryRegion, ...]:
        """The memory table in force."""
        return tuple(mapped.region for mapped in self._mapped)

    def replace(self, regions: Sequence[MemoryRegion], files: Sequence[int]) -> None:
        """Map a new table and drop the old one; takes the files over even when it raises DeviceError."""
        mapped: list[MappedRegion] = []
        try:
            _check_table(regions, files)
            for region, file in zip(regions, files, strict=True):
                mapped.append(_map(region, file))
        except DeviceError:
            _unmap(mapped)
            for file in files[len(mapped) :]:
                os.close(file)
            raise
        self.close()
        self._mapped = tuple(mapped)
        self._ranges = [
            (m.region.guest_address, m.region.guest_address + m.region.size, m.view)
            for m in sorted(mapped, key=lambda m: -m.region.size)
        ]

    def view(self, address: int, length: int) -> memoryview:
        """Return guest physical memory from ``address`` on; raises DeviceError outside the table."""
        for start, end, view in self._ranges:
            if start <= address and address + length <= end:
                return view[address - start : address - start + length]
        raise DeviceError(f"guest memory {address:#x}+{length:#x} is not memory of this guest")

    def user_view(self, address: int, length: int) -> memoryview:
        """Return memory named by the peer's own address; raises DeviceError outside the table."""
        for mapped in self._mapped:
            start = address - mapped.region.user_address
            if start >= 0 and start + length <= mapped.region.size:
                return mapped.view[start : start + length]
        raise DeviceError(f"the peer's address {address:#x}+{length:#x} is in no memory region")

    def close(self) -> None:
        """Unmap everything and close the files."""
        mapped, self._mapped, self._ranges = self._mapped, (), []
        _unmap(mapped)


def _check_table(regions: Sequence[MemoryRegion], files: Sequence[int]) -> None:
    if len(regions) != len(files):
        raise DeviceError(f"{len(regions)} memory regions came with {len(files)} files, expected one each")
    if sum(region.size for region in regions) > MAX_MEMORY:
        raise DeviceError(f"the memory table is larger than {MAX_MEMORY} bytes")


def _map(region: MemoryRegion, file: int) -> MappedRegion:
    if (
        region.size == 0
        or max(region.guest_address, region.user_address, region.offset) + region.size >= 1 << 64
    ):
        raise DeviceError(f"memory region {region} is empty or wraps around")
    try:
        seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
        length = os.fstat(file).st_size
    except OSError as error:
        raise DeviceError(
            f"guest memory must be a memory file that can be sealed: {error.strerror}"
        ) from error
    if not seals & fcntl.F_SEAL_SHRINK:
        raise DeviceError("guest memory is a file that can shrink, expected one sealed against it")
    if region.offset % mmap.ALLOCATIONGRANULARITY or region.offset + region.size > length:
        raise DeviceError(f"memory region {region} does not lie on a page inside its file of {length} bytes")
    try:
        mapping = mmap.mmap(file, region.size, offset=region.offset)
        mapping.madvise(mmap.MADV_DONTDUMP)  # a core_pattern that is a pipe ignores the limit of core dumps
    except (OSError, ValueError, OverflowError) as error:
        raise DeviceError(f"memory region {region} cannot be mapped: {error}") from error
    return MappedRegion(region, file, mapping, memoryview(mapping))


def _unmap(mapped: Sequence[MappedRegion]) -> None:
    for one in mapped:
        one.view.release()
        with suppress(BufferError):  # a view still lives somewhere: the mapping goes with the last of them
            one.mapping.close()
        os.close(one.file)
