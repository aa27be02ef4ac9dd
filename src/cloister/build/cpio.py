"""The ramdisk format: a newc cpio archive whose size is known before its first byte is written.

Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst, cpio(5) "New ASCII Format".
Times are zero, inode numbers count from 1, order is given, so equal trees are equal bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cloister.build.content import BuildError, Content, Literal
from cloister.build.tree import Kind, Node, walk_tree

_MAGIC: Final = b"070701"
_HEADER_SIZE: Final = 110
_MAX_FILE: Final = 0xFFFFFFFF
"""Bytes: the format's size field has eight hexadecimal digits."""
_ALIGNMENT: Final = 512
"""What ``cpio -o`` pads an archive to; the kernel needs 4, and skips zeros before the next ramdisk."""


@dataclass(frozen=True, slots=True)
class CpioEntry:
    """One name in the archive."""

    name: bytes
    inode: int
    mode: int
    """Type and permission bits, as in ``st_mode``."""
    content: Content
    uid: int = 0
    gid: int = 0
    links: int = 1
    major: int = 0
    minor: int = 0

    @property
    def size(self) -> int:
        """Bytes in the archive, with header and padding."""
        return _aligned(_HEADER_SIZE + len(self.name) + 1) + _aligned(self.content.size)

    def head(self) -> bytes:
        """Return the header and the name, padded; the order of the fields is cpio(5)'s."""
        size = self.content.size
        if size > _MAX_FILE:
            raise BuildError(f"{self.name[:100]!r} does not fit a ramdisk, which holds files below 4 GiB.")
        device = (0, 0, self.major, self.minor)
        fields = (
            self.inode,
            self.mode,
            self.uid,
            self.gid,
            self.links,
            0,
            size,
            *device,
            len(self.name) + 1,
            0,
        )
        head = _MAGIC + b"".join(b"%08X" % value for value in fields) + self.name
        return head.ljust(_aligned(len(head) + 1), b"\0")


_TRAILER: Final = CpioEntry(b"TRAILER!!!", inode=0, mode=0, content=Literal(b""))


class CpioArchive:
    """Entries, and the bytes they make."""

    def __init__(self, entries: Iterable[CpioEntry]) -> None:
        self._entries = (*entries, _TRAILER)
        self._used = sum(entry.size for entry in self._entries)

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        return -(-self._used // _ALIGNMENT) * _ALIGNMENT

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive; raises BuildError when a file cannot be read any more or does not fit."""
        for entry in self._entries:
            yield entry.head()
            yield from entry.content.chunks()
            yield bytes(-entry.content.size % 4)
        yield bytes(self.size - self._used)

    @classmethod
    def of_tree(cls, root: Node) -> "CpioArchive":
        """Archive everything below a node; hard links carry their bytes once, under their last name."""
        walked = list(walk_tree(root))
        if _TRAILER.name in root.children:
            raise BuildError("A ramdisk cannot hold TRAILER!!! at its root: that name ends the archive.")
        links = dict[int, int]()
        for _, node in walked:
            links[id(node)] = links.get(id(node), 0) + 1
        left, inodes, entries = dict(links), dict[int, int](), list[CpioEntry]()
        for name, node in walked:
            key = id(node)
            left[key] -= 1
            entries.append(
                CpioEntry(
                    name,
                    inodes.setdefault(key, len(inodes) + 1),
                    node.kind | node.mode,
                    Literal(b"") if left[key] else node.content,
                    node.uid,
                    node.gid,
                    2 if node.kind is Kind.DIRECTORY else links[key],
                    node.major,
                    node.minor,
                )
            )
        return cls(entries)


def _aligned(size: int) -> int:
    return -(-size // 4) * 4
