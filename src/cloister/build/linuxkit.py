"""An image's tree as AWS's build-enclave lays it out: through ``docker export`` and linuxkit, file by file.

Docker makes some files in every container it creates, exported or not; linuxkit leaves some of them out,
replaces others, and adds the mount points a second time. PCR2 depends on every byte of it. The rules with
their sources: docs/reference/ramdisk-layout.md.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from cloister.build.content import Content, Literal
from cloister.build.cpio import CpioEntry
from cloister.build.tree import Kind, Node, walk_tree

EPOCH: Final = 1_492_533_000
"""Modification time of what linuxkit makes itself: 18 April 2017, 16:30 UTC."""
_PREFIX: Final = b"rootfs"
_CREATED: Final[Sequence[tuple[bytes, Kind, bytes]]] = (
    (b"dev/pts", Kind.DIRECTORY, b""),
    (b"dev/shm", Kind.DIRECTORY, b""),
    (b"proc", Kind.DIRECTORY, b""),
    (b"sys", Kind.DIRECTORY, b""),
    (b".dockerenv", Kind.FILE, b""),
    (b"etc/resolv.conf", Kind.FILE, b""),
    (b"etc/hosts", Kind.FILE, b""),
    (b"etc/hostname", Kind.FILE, b""),
    (b"dev/console", Kind.FILE, b""),
    (b"etc/mtab", Kind.SYMLINK, b"/proc/mounts"),
)
"""What Docker makes in a new container, in place of any file or link of that name."""
_LEFT_OUT: Final = (b".dockerenv", b"Dockerfile", b"dev/console", b"dev/pts", b"dev/shm", b"etc/hostname")
_NOTHING: Final = Literal(b"")
_HOSTS: Final = Literal(
    b"127.0.0.1       localhost\n"
    b"::1     localhost ip6-localhost ip6-loopback\n"
    b"fe00::0 ip6-localnet\n"
    b"ff00::0 ip6-mcastprefix\n"
    b"ff02::1 ip6-allnodes\n"
    b"ff02::2 ip6-allrouters\n"
)
_RESOLVER: Final = Literal(b"/run/resolvconf/resolv.conf")
_REPLACED: Final[Mapping[bytes, tuple[Kind, Content]]] = {
    b"etc/hosts": (Kind.FILE, _HOSTS),
    b"etc/resolv.conf": (Kind.SYMLINK, _RESOLVER),
}
_NEEDED: Final[Mapping[bytes, tuple[Kind, int, Content]]] = {
    b"dev/": (Kind.DIRECTORY, 0o755, _NOTHING),
    b"dev/pts/": (Kind.DIRECTORY, 0o755, _NOTHING),
    b"dev/shm/": (Kind.DIRECTORY, 0o755, _NOTHING),
    b"etc/": (Kind.DIRECTORY, 0o755, _NOTHING),
    b"etc/hosts": (Kind.FILE, 0o644, _HOSTS),
    b"etc/mtab": (Kind.SYMLINK, 0o755, Literal(b"/proc/mounts")),
    b"etc/resolv.conf": (Kind.SYMLINK, 0o644, _RESOLVER),
    b"proc/": (Kind.DIRECTORY, 0o755, _NOTHING),
    b"sys/": (Kind.DIRECTORY, 0o755, _NOTHING),
}
"""What must be there: its time is linuxkit's, and it is added at the end where it is missing."""
_MOUNT_POINTS: Final = (b"dev", b"run", b"sys", b"var", b"proc", b"tmp")


def rootfs_entries(root: Node) -> Iterator[CpioEntry]:
    """Yield an image below ``rootfs/``, then its mount points; changes the tree as Docker would."""
    yield directory_entry(_PREFIX)
    found = set[bytes]()
    for entry in _exported(root):
        if entry.name in _LEFT_OUT:
            continue
        found.add(entry.name)
        if entry.name in _REPLACED:
            kind, content = _REPLACED[entry.name]
            entry = replace(entry, kind=kind, content=content, mtime=EPOCH)  # noqa: PLW2901
        elif entry.name in _NEEDED:
            entry = replace(entry, mtime=EPOCH)  # noqa: PLW2901
        yield _below(entry)
    for name, (kind, mode, content) in _NEEDED.items():
        if name not in found:  # a directory that linuxkit makes has no slash, one that Docker exports has
            yield _below(CpioEntry(name.rstrip(b"/"), kind, mode, content, mtime=EPOCH))
    yield directory_entry(_PREFIX)
    yield from (directory_entry(_PREFIX + b"/" + name) for name in _MOUNT_POINTS)


def directory_entry(name: bytes) -> CpioEntry:
    """Return a directory as linuxkit makes it."""
    return CpioEntry(name, Kind.DIRECTORY, 0o755, mtime=EPOCH)


def file_entry(name: bytes, mode: int, content: Content) -> CpioEntry:
    """Return a file as linuxkit makes it."""
    return CpioEntry(name, Kind.FILE, mode, content, mtime=EPOCH)


def _below(entry: CpioEntry) -> CpioEntry:
    return replace(entry, name=_PREFIX + b"/" + entry.name)


def _exported(root: Node) -> Iterator[CpioEntry]:
    """Yield a tree as ``docker export`` and linuxkit's cpio writer have it: a hard link as a symbolic one."""
    for path, kind, target in _CREATED:
        _create(root, path.split(b"/"), kind, target)
    first = dict[int, bytes]()
    for name, node in walk_tree(root):
        common = (node.uid, node.gid, node.mtime, node.major, node.minor)
        if node.kind is Kind.DIRECTORY:
            yield CpioEntry(name + b"/", node.kind, node.mode, _NOTHING, *common)
            continue
        seen = first.setdefault(id(node), name)
        if seen is name:
            yield CpioEntry(name, node.kind, node.mode, node.content, *common)
        else:
            target = posixpath.relpath(b"/" + seen, b"/" + posixpath.dirname(name))
            yield CpioEntry(name, Kind.SYMLINK, node.mode, Literal(target), *common)


def _create(root: Node, parts: Sequence[bytes], kind: Kind, target: bytes) -> None:
    """Remove what is no directory on the way and at its end, then make what is missing."""
    directory = root
    for number, part in enumerate(parts, 1):
        child = directory.children.get(part)
        if child is None or child.kind is not Kind.DIRECTORY:
            last = number == len(parts)
            mode = 0o777 if last and kind is Kind.SYMLINK else 0o755
            child = Node(kind if last else Kind.DIRECTORY, mode, content=Literal(target if last else b""))
            directory.children[part] = child
        directory = child
