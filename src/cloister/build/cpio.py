"""The ramdisk format: a newc cpio archive whose size is known before its first byte is written.

Format: cpio(5) "New ASCII Format" and the kernel's driver-api/early-userspace/buffer-format.rst. Where they
leave a choice, the choice is gocpio's, which linuxkit writes ramdisks with, so that PCR2 is the same one:
docs/reference/ramdisk-layout.md.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cloister.build.content import BuildError, Content, Literal
from cloister.build.tree import MAX_PATH, Kind

_NUMBERS: Final = b"070701" + 13 * b"%08x"
"""The magic and the header's fields."""
_HEADER_SIZE: Final = 110
_MAX_FILE: Final = 0xFFFFFFFF
"""Bytes: the format's size field has eight hexadecimal digits."""
_ALIGNMENT: Final = 512
"""What the end is padded to; the kernel needs 4, and skips zeros before the next ramdisk."""
_FIRST_INODE: Final = 721
_DEVICE: Final = (3, 1)
"""Major and minor number of the device that every file claims to be on."""
_NOTHING: Final = Literal(b"")


@dataclass(frozen=True, slots=True)
class CpioEntry:
    """One name in the archive; a directory's may end with a slash."""

    name: bytes
    kind: Kind
    mode: int
    """Permission bits, with set-user-id, set-group-id and sticky."""
    content: Content = _NOTHING
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    major: int = 0
    minor: int = 0

    @property
    def size(self) -> int:
        """Bytes in the archive, with header and padding."""
        return _aligned(_HEADER_SIZE + len(self.name) + 1) + _aligned(self.content.size)

    def check(self) -> None:
        """Raise BuildError for what the format cannot say, or the kernel would skip without a word."""
        if self.content.size > _MAX_FILE:
            raise BuildError(f"{self.name[:100]!r} does not fit a ramdisk, which holds files below 4 GiB.")
        if len(self.name) > MAX_PATH or (self.kind is Kind.SYMLINK and self.content.size > MAX_PATH):
            raise BuildError(
                f"{self.name[:100]!r}... does not fit a ramdisk: its path is longer than {MAX_PATH} bytes, "
                "or the path that it links to."
            )

    def head(self, inode: int) -> bytes:
        """Return the header and the name, padded."""
        links = 2 if self.kind is Kind.DIRECTORY else 1
        fields = (inode, self.kind | self.mode, self.uid, self.gid, links, self.mtime, self.content.size)
        devices = (*_DEVICE, self.major, self.minor)
        return _head(self.name, (*fields, *devices))


def _head(name: bytes, fields: Iterable[int]) -> bytes:
    """Return a header in the order of cpio(5), with its name."""
    head = _NUMBERS % (*fields, len(name) + 1, 0) + name
    return head.ljust(_aligned(len(head) + 1), b"\0")


class CpioArchive:
    """Entries in the order given, and the bytes they make; raises BuildError for one that does not fit."""

    def __init__(self, entries: Iterable[CpioEntry]) -> None:
        self._entries = tuple(entries)
        for entry in self._entries:
            entry.check()
        self._used = sum(entry.size for entry in self._entries) + len(self._trailer())

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        return -(-self._used // _ALIGNMENT) * _ALIGNMENT

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive; raises BuildError when a file cannot be read any more."""
        for inode, entry in enumerate(self._entries, _FIRST_INODE):
            yield entry.head(inode)
            yield from entry.content.chunks()
            yield bytes(-entry.content.size % 4)
        yield self._trailer()
        yield bytes(self.size - self._used)

    def _trailer(self) -> bytes:
        fields = (_FIRST_INODE + len(self._entries), 0, 0, 0, 1, 0, 0, *_DEVICE, 0, 0)
        return _head(b"TRAILER!!!", fields)


def _aligned(size: int) -> int:
    return -(-size // 4) * 4
