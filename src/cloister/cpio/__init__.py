"""The ramdisk format, read: newc cpio archives as the kernel takes them, one after the other; pure.

Writing them is ``build``'s.
"""

from cloister.cpio.reader import CompressedError, CpioEntry, CpioError, CpioTrailer, read_cpio, read_files

__all__ = ["CompressedError", "CpioEntry", "CpioError", "CpioTrailer", "read_cpio", "read_files"]
