"""The ramdisk format, read: newc cpio archives as the kernel takes them, one after the other; pure.

Writing them is ``build``'s.
"""

from cloister.cpio.expansion import Expand, as_it_is, expand, is_compressed
from cloister.cpio.reader import (
    CompressedError,
    CpioEntry,
    CpioError,
    CpioTrailer,
    compression_of,
    read_cpio,
    read_files,
)

__all__ = [
    "CompressedError",
    "CpioEntry",
    "CpioError",
    "CpioTrailer",
    "Expand",
    "as_it_is",
    "compression_of",
    "expand",
    "is_compressed",
    "read_cpio",
    "read_files",
]
