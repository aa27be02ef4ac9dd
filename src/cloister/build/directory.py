"""A root file system that lies in a directory, read without following a link and whoever owns its files.

Owners become 0:0, since whoever unpacked the tree owns it now, and modes are the files' own. Hard links
stay links. Sockets are left out: they are processes' business, not files. The order is the names', not the
file system's.
"""

import os
import stat
from pathlib import Path

from cloister.build.content import BuildError, Content, HostFile, Literal
from cloister.build.tree import Kind, Limits, Node, Tree, split_path


def read_directory(directory: Path, limits: Limits) -> Tree:
    """Index a directory; raises BuildError."""
    tree, linked, total = Tree(str(directory), limits), dict[tuple[int, int], Node](), 0
    pending: list[tuple[bytes, tuple[bytes, ...]]] = [(os.fsencode(directory), ())]
    while pending:
        path, parts = pending.pop()
        for entry in _listed(path):
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISSOCK(status.st_mode):
                continue
            below = (*parts, *split_path(entry.name, str(directory)))
            identity = (status.st_dev, status.st_ino)
            node = linked.get(identity)
            if node is None:
                node = _node(entry, status)
                total += node.content.size
            if status.st_nlink > 1 and node.kind is not Kind.DIRECTORY:
                linked[identity] = node
            tree.put(below, node)
            if node.kind is Kind.DIRECTORY:
                pending.append((entry.path, below))
            if total > limits.size:
                raise BuildError(f"{directory} holds more than {limits.size} bytes; it is refused.")
    return tree


def _listed(path: bytes) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise BuildError(f"{os.fsdecode(path)} cannot be read: {error.strerror}.") from error


def _node(entry: os.DirEntry[bytes], status: os.stat_result) -> Node:
    kind = Kind(stat.S_IFMT(status.st_mode))
    content: Content = Literal(b"")
    if kind is Kind.FILE:
        content = HostFile(entry.path, status.st_size)
    elif kind is Kind.SYMLINK:
        content = Literal(os.readlink(entry.path))  # noqa: PTH115 - names stay bytes
    device = kind in (Kind.CHARACTER, Kind.BLOCK)
    return Node(
        kind,
        0o777 if kind is Kind.SYMLINK else stat.S_IMODE(status.st_mode),
        content=content,
        major=os.major(status.st_rdev) if device else 0,
        minor=os.minor(status.st_rdev) if device else 0,
    )
