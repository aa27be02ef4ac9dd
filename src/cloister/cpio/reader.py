"""A reader of newc archives over a buffer: nothing is copied, nothing is kept, every length is checked.

What is accepted is what Linux unpacks (init/initramfs.c and its description, Documentation/driver-api/
early-userspace/buffer-format.rst): archives one after the other, zeros between them, each header at a
multiple of four. Stricter where the kernel guesses: a header's numbers are eight hexadecimal digits and names
end with their only NUL.
"""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cloister.errors import CloisterError
from cloister.mapped import RESIDENT, release

HEADER_SIZE: Final = 110
PATH_MAX: Final = 4096
"""Bytes of a name or a link's target with its NUL; longer ones the kernel leaves out without a word."""
MAX_ENTRIES: Final = 1_000_000
_MAGICS: Final = (b"070701", b"070702")
_TRAILER: Final = b"TRAILER!!!"
_DIGITS: Final = re.compile(rb"[0-9A-Fa-f]{104}")
_NOT_ZERO: Final = re.compile(rb"[^\0]")
_CHUNK: Final = 1 << 16
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x21\x4c\x18": "lz4",
    b"BZh": "bzip2",
    b"\x89LZO": "lzo",
    b"\x5d\x00\x00": "lzma",
}
"""What the kernel looks for (lib/decompress.c)."""


class CpioError(CloisterError):
    """The bytes at ``offset`` are not what the kernel would unpack."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class CompressedError(CpioError):
    """The archive is compressed from ``offset`` on; the kernel may unpack it, this reader does not."""


@dataclass(frozen=True, slots=True)
class CpioEntry:
    """One name; the content is a view that lives as long as the buffer."""

    name: bytes
    inode: int
    mode: int
    """Type and permission bits, as in ``st_mode``."""
    uid: int
    gid: int
    links: int
    mtime: int
    """Seconds since 1970."""
    device: tuple[int, int]
    """What held the file, major and minor; with ``inode`` it tells hard links."""
    node: tuple[int, int]
    """Which device a device node stands for."""
    content: memoryview
    """A file's bytes or a link's target; of hard links one carries it."""
    offset: int
    """Bytes from the buffer's start to the header."""

    @property
    def kind(self) -> int:
        """The type alone, as ``stat.S_IFMT`` gives it."""
        return stat.S_IFMT(self.mode)

    @property
    def target(self) -> bytes:
        """Where a symbolic link points; empty for anything else."""
        return bytes(self.content) if self.kind == stat.S_IFLNK else b""


@dataclass(frozen=True, slots=True)
class CpioTrailer:
    """The end of one archive; ``offset`` is that of the first byte after it."""

    offset: int


def read_files(buffer: bytes | memoryview) -> Iterator[CpioEntry]:
    """Yield the entries of all archives; raises CpioError where they stop making sense."""
    for item in read_cpio(buffer):
        if isinstance(item, CpioEntry):
            yield item


def read_cpio(buffer: bytes | memoryview, start: int = 0) -> Iterator[CpioEntry | CpioTrailer]:
    """Yield entries and trailers in their order; raises CpioError, after all that could still be read.

    Reading begins where one archive ends, at the byte ``start``.
    """
    view = memoryview(buffer).toreadonly().cast("B")
    position, entries, fresh, released = _skip_zeros(view, start), 0, True, start
    while position < len(view):
        if position - released >= RESIDENT:
            release(view)
            released = position
        if fresh and bytes(view[position : position + 1]) != b"0":
            raise _no_archive(view, position)
        if position % 4:
            raise CpioError(f"An archive starts at byte {position}; expected a multiple of 4.", position)
        entry, end = _read_entry(view, position)
        entries += 1
        if entries > MAX_ENTRIES:
            raise CpioError(f"There are more than {MAX_ENTRIES} entries; the rest is not read.", position)
        if entry.name == _TRAILER:
            yield CpioTrailer(end)
            position, fresh = _skip_zeros(view, end), True
        else:
            yield entry
            position, fresh = end, False
    if not fresh:
        raise CpioError(f"The archive ends at byte {position} without its trailer.", position)


def compression_of(data: memoryview) -> str | None:
    """Return what the kernel would unpack these bytes with; None where they begin like nothing it knows."""
    start = bytes(data[:6])
    return next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)


def _read_entry(view: memoryview, start: int) -> tuple[CpioEntry, int]:
    """Return the entry whose header starts here, and where the next one does; raises CpioError."""
    header = bytes(view[start : start + HEADER_SIZE])
    if len(header) < HEADER_SIZE:
        raise CpioError(
            f"The archive ends inside the header at byte {start}: {len(header)} of {HEADER_SIZE} bytes.",
            start,
        )
    if header[:6] not in _MAGICS:
        raise CpioError(f"At byte {start} there is {header[:6]!r}; expected a header, 070701.", start)
    if _DIGITS.fullmatch(header, 6) is None:
        raise CpioError(f"The header at byte {start} holds something other than hexadecimal digits.", start)
    numbers = [int(header[at : at + 8], 16) for at in range(6, HEADER_SIZE, 8)]
    inode, mode, uid, gid, links, mtime, size, major, minor, node_major, node_minor, name_size, _ = numbers
    if not 1 < name_size <= PATH_MAX:
        raise CpioError(
            f"The name at byte {start} is {name_size} bytes long with its NUL; expected 2 to {PATH_MAX}.",
            start,
        )
    after_name = start + HEADER_SIZE + name_size
    body = -(-after_name // 4) * 4
    end = body + size
    if end > len(view):
        raise CpioError(
            f"The entry at byte {start} needs {end - start} bytes, but only {len(view) - start} are left.",
            start,
        )
    name = bytes(view[start + HEADER_SIZE : after_name])
    if name.find(b"\0") != name_size - 1:
        raise CpioError(f"The name at byte {start} does not end with its only NUL.", start)
    if stat.S_ISLNK(mode) and size >= PATH_MAX:
        raise CpioError(f"The link at byte {start} has a target of {size} bytes; expected less.", start)
    entry = CpioEntry(
        name[:-1], inode, mode, uid, gid, links, mtime, (major, minor), (node_major, node_minor),
        view[body:end], start,
    )  # fmt: skip
    return entry, min(-(-end // 4) * 4, len(view))


def _skip_zeros(view: memoryview, position: int) -> int:
    while position < len(view):
        found = _NOT_ZERO.search(view[position : position + _CHUNK])
        if found is not None:
            return position + found.start()
        position += _CHUNK
    return len(view)


def _no_archive(view: memoryview, position: int) -> CpioError:
    name = compression_of(view[position:])
    if name is not None:
        return CompressedError(f"From byte {position} on the ramdisk is compressed with {name}.", position)
    start = bytes(view[position : position + 6])
    return CpioError(f"At byte {position} there is {start!r}; expected an archive, 070701.", position)
