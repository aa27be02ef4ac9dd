"""How fast this processor's time stamp counter runs, measured between two moments that lie apart anyway.

QEMU's emulator (TCG) gives its guest the host's own counter and does not say how fast it counts. A guest that
has to find out by a timer emulated on a busy host fails now and then, boots a tenth of a second later, and
keeps time by jiffies. Intel SDM volume 2, RDTSC; Linux kernel-parameters.txt, tsc_early_khz.
"""

import ctypes
import mmap
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

_RDTSC: Final = bytes.fromhex("0f31 48c1e220 4809d0 c3")  # rdtsc; shl rdx, 32; or rax, rdx; ret
_MAP_FAILED: Final = ctypes.c_void_p(-1).value
TRIES: Final = 5
WORST: Final = 2e-4
"""By how much, as a share, a rate may be wrong at worst: a quartz is off by as much in bad weather."""


class TickRate:
    """Made at one moment, asked at a later one."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._read = _map_counter(self._stack)
        self._start = self._now()

    def khz(self) -> int | None:
        """Return the rate, good to some parts in a million; None where it cannot be told. Ask once."""
        (doubt, began, first), (doubt_now, now, ticks) = self._start, self._now()
        self._read = None
        self._stack.close()
        if ticks <= first or doubt + doubt_now > WORST * (now - began):
            return None
        return round((ticks - first) * 1_000_000 / (now - began))

    def _now(self) -> tuple[int, float, int]:
        """Return a moment in nanoseconds, how long around it the counter was read, and the counter."""
        if self._read is None:
            return 0, 0, 0
        readings = []
        for _ in range(TRIES):  # whoever is interrupted between two clocks tries again
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            ticks = self._read()
            after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            readings.append((after - before, (before + after) / 2, ticks))
        return min(readings)


def _map_counter(stack: ExitStack) -> Callable[[], int] | None:
    """Return a function that reads the counter, for as long as the stack; None where there can be none."""
    if os.uname().machine != "x86_64":
        return None
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    code = os.memfd_create("rdtsc", os.MFD_CLOEXEC)
    try:  # from a file, so that the page is never writable
        os.write(code, _RDTSC.ljust(mmap.PAGESIZE, b"\xcc"))
        page = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, code, 0)
    finally:
        os.close(code)
    if page == _MAP_FAILED:  # a policy against programs that make code
        return None
    stack.callback(libc.munmap, ctypes.c_void_p(page), mmap.PAGESIZE)
    return ctypes.CFUNCTYPE(ctypes.c_uint64)(page)
