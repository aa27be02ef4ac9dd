"""A guest's memory as a file of the process that started it, overwritten once QEMU is dead.

A memory file (memfd_create(2)), on huge pages where asked; its size is sealed, for the devices map it.
"""

import ctypes
import errno
import fcntl
import mmap
import os
from contextlib import suppress
from typing import Final

from cloister.vmm.config import MachineError

_HUGE_SHIFT: Final = 26
"""Where memfd_create takes the binary logarithm of the page size."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class MemoryFile:
    """One guest's memory; whoever closes it overwrites it first."""

    def __init__(self, memory_mib: int, *, huge_page_kib: int | None = None) -> None:
        """Make it, empty; raises MachineError when there is no memory file of this size or page."""
        self._size = memory_mib << 20
        self._huge = huge_page_kib is not None
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        if huge_page_kib is not None:
            flags |= os.MFD_HUGETLB | ((huge_page_kib << 10).bit_length() - 1) << _HUGE_SHIFT
        try:
            self.fd = os.memfd_create("guest-memory", flags)
        except OSError as error:
            raise MachineError(f"guest memory cannot be made: {error.strerror}.") from None
        try:
            os.ftruncate(self.fd, self._size)
            if self._huge:  # mapping it once reserves its pages: better now than in the middle of a boot
                mmap.mmap(self.fd, self._size).close()
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        except (OSError, OverflowError) as error:
            os.close(self.fd)
            reason = getattr(error, "strerror", None) or "no file is that large"
            raise MachineError(f"{memory_mib} MiB of guest memory cannot be had: {reason}.") from None

    def scrub(self) -> None:
        """Overwrite every page that was ever used with zeros; holders of a duplicate read zeros from then on.

        The kernel clears pages only when it gives them out again, at a time nobody knows.
        """
        with mmap.mmap(self.fd, self._size) as memory:
            first = ctypes.c_char.from_buffer(memory)
            try:
                address, position = ctypes.addressof(first), 0
                while position < self._size:
                    position, end = self._next_used(position)
                    ctypes.memset(address + position, 0, end - position)
                    position = end
            finally:
                del first  # the mapping cannot be closed while something points into it

    def close(self) -> None:
        """Overwrite and let go; safe to call again."""
        if self.fd < 0:
            return
        try:
            self.scrub()
        finally:
            os.close(self.fd)
            self.fd = -1

    def _next_used(self, position: int) -> tuple[int, int]:
        """Return where the next allocated pages begin and end; hugetlbfs cannot tell: all of it."""
        if self._huge:
            return position, self._size
        try:
            start = os.lseek(self.fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but holes from here on
                return self._size, self._size
            raise
        with suppress(OSError):
            return start, os.lseek(self.fd, start, os.SEEK_HOLE)
        return start, self._size
