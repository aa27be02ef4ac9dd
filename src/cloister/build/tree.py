"""A file tree as an image describes it, merged without touching a file system.

Paths come from archives that nobody vouches for. They are resolved inside the tree alone: an absolute
symbolic link starts at the tree's root, ``..`` stops there, and names that try to climb are refused.
Security checklist 5.6.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cloister.build.content import BuildError, Content, Literal

MAX_NAME: Final = 255
"""Bytes of one component (NAME_MAX)."""
MAX_PATH: Final = 4095
"""Bytes of a path without its terminator (PATH_MAX); the kernel skips longer names in a ramdisk silently."""
_MAX_HOPS: Final = 40
"""Symbolic links followed in one path, as Linux does (MAXSYMLINKS)."""
_STEPS_PER_ENTRY: Final = 64
"""Components walked per entry that an image may have, on average: honest trees need about ten."""
_EMPTY: Final = Literal(b"")


class Kind(IntEnum):
    """What a node is, with the values of ``st_mode``'s file type bits."""

    FIFO = 0o010000
    CHARACTER = 0o020000
    DIRECTORY = 0o040000
    BLOCK = 0o060000
    FILE = 0o100000
    SYMLINK = 0o120000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an image may unpack to before it is refused as hostile or absurd."""

    entries: int = 500_000
    """Names, counted over all layers."""
    size: int = 16 << 30
    """Bytes of all layers, unpacked."""


@dataclass(slots=True, eq=False)
class Node:
    """A file, directory, link or device; hard links are one node under several names."""

    kind: Kind
    mode: int = 0o755
    """Permission bits, with set-user-id, set-group-id and sticky."""
    uid: int = 0
    gid: int = 0
    content: Content = _EMPTY
    """A file's bytes, or a symbolic link's target."""
    major: int = 0
    minor: int = 0
    mtime: int = 0
    """Seconds since 1970, as a ramdisk can hold them."""
    children: dict[bytes, "Node"] = field(default_factory=dict)

    def take_attributes(self, mode: int, uid: int, gid: int, mtime: int) -> None:
        """Change mode, owner and time."""
        self.mode, self.uid, self.gid, self.mtime = mode, uid, gid, mtime


def split_path(raw: bytes, where: str) -> tuple[bytes, ...]:
    """Return a path's components; raises BuildError for names that climb or cannot exist."""
    if b"\0" in raw or len(raw) > MAX_PATH:
        raise BuildError(f"{where} holds a name that no file system can hold: {_shown(raw)}.")
    parts = tuple(part for part in raw.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise BuildError(f"{where} holds the name {_shown(raw)}, which climbs with '..'.")
    if any(len(part) > MAX_NAME for part in parts):
        raise BuildError(f"{where} holds a name with a part longer than {MAX_NAME} bytes: {_shown(raw)}.")
    return parts


class Tree:
    """A root directory and how entries of successive layers change it."""

    def __init__(self, where: str, limits: Limits) -> None:
        self.root = Node(Kind.DIRECTORY)
        self._where = where
        self._limits = limits
        self._entries = 0
        self._size = 0
        self._steps = 0

    def put(self, parts: tuple[bytes, ...], node: Node) -> None:
        """Place a node: a directory over a directory keeps its children, else it replaces what is there."""
        if not parts:
            if node.kind is not Kind.DIRECTORY:
                raise BuildError(f"{self._where} replaces the root directory by something else.")
            return  # the root's own owner and mode are fixed: decision 0022
        self._size += node.content.size  # sparse files are larger than their archive
        if self._size > self._limits.size:
            raise BuildError(f"{self._where} holds more than {self._limits.size} bytes; it is refused.")
        self._place(parts, node)

    def _place(self, parts: tuple[bytes, ...], node: Node) -> None:
        self._count()
        parent = self.make_directory(parts[:-1])
        old = parent.children.get(parts[-1])
        if old is not None and old.kind is Kind.DIRECTORY and node.kind is Kind.DIRECTORY:
            old.take_attributes(node.mode, node.uid, node.gid, node.mtime)
        else:
            parent.children[parts[-1]] = node

    def link(self, parts: tuple[bytes, ...], target: tuple[bytes, ...]) -> Node:
        """Give an existing file a second name; raises BuildError when it is missing or a directory."""
        node = self.find(target)
        if node is None or node.kind is Kind.DIRECTORY:
            raise BuildError(
                f"{self._where} has a hard link {_joined(parts)} to {_joined(target)}, "
                "which is not a file in it."
            )
        if parts != target:
            self._place(parts, node)
        return node

    def remove(self, parts: tuple[bytes, ...]) -> None:
        """Take a name out, with everything below it, if it is there."""
        parent = self._directory(parts[:-1]) if parts else None
        if parent is not None:
            parent.children.pop(parts[-1], None)

    def clear(self, parts: tuple[bytes, ...]) -> None:
        """Empty a directory, if it is there."""
        directory = self._directory(parts)
        if directory is not None:
            directory.children.clear()

    def find(self, parts: tuple[bytes, ...]) -> Node | None:
        """Return what a path names, not following a symbolic link at its end."""
        if not parts:
            return self.root
        parent = self._directory(parts[:-1])
        return None if parent is None else parent.children.get(parts[-1])

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise BuildError(f"{self._where} holds more than {self._limits.entries} files; it is refused.")

    def _directory(self, parts: tuple[bytes, ...]) -> Node | None:
        return self._walk(parts, create=False)

    def make_directory(self, parts: tuple[bytes, ...]) -> Node:
        """Return the directory at a path, made where it is missing; raises BuildError."""
        directory = self._walk(parts, create=True)
        assert directory is not None
        return directory

    def _walk(self, parts: tuple[bytes, ...], *, create: bool) -> Node | None:
        """Return the directory at a path, following links inside the tree only."""
        trail, pending, hops = [self.root], list(reversed(parts)), 0
        while pending:
            name = pending.pop()
            self._steps += 1
            if self._steps > self._limits.entries * _STEPS_PER_ENTRY:
                raise BuildError(f"{self._where} winds its names through too many links; it is refused.")
            if name in (b"", b"."):
                continue
            if name == b"..":
                trail = trail[:-1] or trail
                continue
            child = trail[-1].children.get(name)
            if child is None:
                if not create:
                    return None
                self._count()
                child = trail[-1].children[name] = Node(Kind.DIRECTORY)
            if child.kind is Kind.SYMLINK:
                hops += 1
                if hops > _MAX_HOPS:
                    raise BuildError(
                        f"{self._where} holds {_joined(parts)}, which runs in a circle of links."
                    )
                target = b"".join(child.content.chunks())
                trail = [self.root] if target.startswith(b"/") else trail
                pending.extend(reversed(target.split(b"/")))
            elif child.kind is Kind.DIRECTORY:
                trail.append(child)
            elif create:
                raise BuildError(
                    f"{self._where} puts {_joined(parts)} below something that is not a directory."
                )
            else:
                return None
        return trail[-1]


def walk_tree(root: Node) -> Iterator[tuple[bytes, Node]]:
    """Yield every path below a root, parents first, siblings by name; raises BuildError for endless paths."""
    pending = [(name, root.children[name]) for name in sorted(root.children, reverse=True)]
    while pending:
        path, node = pending.pop()
        if len(path) > MAX_PATH:
            raise BuildError(
                f"{_shown(path)} does not fit a ramdisk: its path is longer than {MAX_PATH} bytes."
            )
        yield path, node
        pending.extend(
            (path + b"/" + name, node.children[name]) for name in sorted(node.children, reverse=True)
        )


def _joined(parts: tuple[bytes, ...]) -> str:
    return _shown(b"/".join(parts) or b"/")


def _shown(raw: bytes) -> str:
    """Render a name for a message: printable, and no longer than a line."""
    text = ascii(raw.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 120 else f"{text[:100]}...{text[-16:]}"
