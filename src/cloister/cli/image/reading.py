"""Images as files, mapped instead of read; they must not be cut short while a command works on them."""

import mmap
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from cloister.build import open_region
from cloister.errors import CloisterError

TROUBLE: Final = 2
"""Exit code of commands whose 1 is an answer: a file could not be read."""


def map_file(path: Path) -> memoryview:
    """Return a file's bytes without reading them, whatever they are; raises FileError."""
    file, region = open_region(path)
    with file:
        if not region.size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), region.size, access=mmap.ACCESS_READ))


def tell_trouble(error: CloisterError) -> int:
    """Say on standard error what is wrong, and return the exit code for it."""
    with suppress(OSError):
        print(f"cloister: {error}", file=sys.stderr, flush=True)
    return TROUBLE
