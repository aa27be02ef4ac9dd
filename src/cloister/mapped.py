"""Going through views of mapped files piece by piece, in little memory however large they are.

The pages of a mapped file count as the process's own memory once they are touched, and stay so until somebody
lets go of them. Dropping them loses nothing: what is needed again comes back from the page cache.
"""

import mmap
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

PIECE: Final = 1 << 20
"""Bytes: enough that a step costs more than the call to it, little enough that a dozen may wait."""
RESIDENT: Final = 8 << 20
"""Bytes of a mapping after which whoever goes through it lets go of its pages."""


def pieces(buffer: bytes | memoryview) -> Iterator[memoryview]:
    """Yield the bytes in views of at most 1 MiB; of a mapped file no more than 8 MiB stay resident.

    Those who still read an earlier piece may go on: its pages come back.
    """
    view = memoryview(buffer)
    for start in range(0, len(view), PIECE):
        if start and start % RESIDENT == 0:
            release(view)
        yield view[start : start + PIECE]
    if len(view) > PIECE:  # the next section's pieces do not know of these
        release(view)


def release(view: memoryview) -> None:
    """Let go of the pages behind a view of a mapped file; anything else stays as it is."""
    mapping = view.obj
    # a mapping that can be written may be a private copy, whose changes would be lost
    if isinstance(mapping, mmap.mmap) and memoryview(mapping).readonly:
        with suppress(OSError):  # a process that locks its memory keeps it: the supervisor does
            mapping.madvise(mmap.MADV_DONTNEED)
