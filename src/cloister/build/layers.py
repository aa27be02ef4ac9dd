"""Layers: opening one whatever its compression, and merging it into the tree below it.

Whiteouts follow the OCI image specification 1.1, "layer.md": ``.wh.NAME`` hides NAME of the layers below,
``.wh..wh..opq`` hides everything its directory had below; both before the layer's own entries, whatever
their order.
"""

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

from cloister.build.compression import decompressed, is_compressed, least_unpacked
from cloister.build.content import BuildError, Content, Literal, Region
from cloister.build.output import check_space
from cloister.build.tar import Member, TarEntry, read_tar
from cloister.build.tree import MAX_PATH, Kind, Limits, Node, Tree, split_path

Progress = Callable[[str, int, int], None]
"""Told what is going on, how many bytes are done, and how many there are (0 when nobody knows)."""

_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_KINDS: Final = {
    Member.FILE: Kind.FILE,
    Member.SYMLINK: Kind.SYMLINK,
    Member.CHARACTER: Kind.CHARACTER,
    Member.BLOCK: Kind.BLOCK,
    Member.DIRECTORY: Kind.DIRECTORY,
    Member.FIFO: Kind.FIFO,
}


def unpack_archive(
    archive: Region, scratch: Path, limits: Limits, held: ExitStack, progress: Progress
) -> Region:
    """Return the plain tar behind a region; a compressed one goes to an unnamed file that ``held`` closes.

    ``limits.size`` is what this archive may still take, in bytes.
    """
    if not is_compressed(archive):
        if archive.size > limits.size:
            raise BuildError(f"{archive.name} is {archive.size} bytes long; expected at most {limits.size}.")
        return archive
    check_space(scratch, least_unpacked(archive), f"{archive.name}, unpacked,")
    file = held.enter_context(_scratch_file(scratch))
    size = 0
    try:
        for chunk in decompressed(archive):
            size += len(chunk)
            if size > limits.size:
                raise BuildError(
                    f"{archive.name} unpacks to more than {limits.size} bytes, all that it may take here; "
                    "it is refused."
                )
            file.write(chunk)
            progress(f"unpacking {Path(archive.name).name}", size, 0)
        file.flush()
    except OSError as error:
        raise BuildError(f"{archive.name} cannot be unpacked in {scratch}: {error.strerror}.") from error
    return Region(file, 0, size, archive.name)


def _scratch_file(directory: Path) -> IO[bytes]:
    """Open a file without a name: whatever happens to this process, nothing is left."""
    try:
        return tempfile.TemporaryFile(dir=directory)
    except OSError as error:
        raise BuildError(f"{directory} cannot hold temporary files: {error.strerror}.") from error


def check_digest(content: Content, expected: str, what: str) -> None:
    """Compare with ``sha256:…``; raises BuildError."""
    digest = hashlib.sha256()
    for chunk in content.chunks():
        digest.update(chunk)
    if f"sha256:{digest.hexdigest()}" != expected:
        raise BuildError(f"{what} has the digest sha256:{digest.hexdigest()}; expected {expected}.")


def apply_layer(tree: Tree, layer: Region, limits: Limits) -> None:
    """Merge one layer of an image; raises BuildError."""
    additions = list[tuple[tuple[bytes, ...], TarEntry]]()
    for count, entry in enumerate(read_tar(layer)):
        if count >= limits.entries:
            raise BuildError(f"{layer.name} holds more than {limits.entries} files; it is refused.")
        parts = split_path(entry.name, layer.name)
        last = parts[-1] if parts else b""
        if last == _OPAQUE:
            tree.clear(parts[:-1])
        elif last.startswith(_WHITEOUT + _WHITEOUT):
            continue  # aufs's own bookkeeping, reserved by the specification
        elif last.startswith(_WHITEOUT):
            hidden = split_path(last.removeprefix(_WHITEOUT), layer.name)
            if not hidden:
                raise BuildError(f"{layer.name} holds a whiteout that hides nothing: {entry.name[:100]!r}.")
            tree.remove((*parts[:-1], *hidden))
        else:
            additions.append((parts, entry))
    for parts, entry in additions:
        _add(tree, parts, entry, layer.name)


def apply_archive(tree: Tree, archive: Region) -> None:
    """Fill a tree from a root file system's tar, where no name is special; raises BuildError."""
    for entry in read_tar(archive):
        _add(tree, split_path(entry.name, archive.name), entry, archive.name)


def _add(tree: Tree, parts: tuple[bytes, ...], entry: TarEntry, where: str) -> None:
    if entry.kind is Member.HARDLINK:
        node = tree.link(parts, split_path(entry.link, where))
        # as Docker and containerd unpack it, the link's own header wins, except over a symbolic link's time
        fixed = node.kind is Kind.SYMLINK
        mode, mtime = (node.mode, node.mtime) if fixed else (entry.mode, entry.mtime)
        node.take_attributes(mode, entry.uid, entry.gid, mtime)
        return
    content: Content = entry.content
    if entry.kind is Member.SYMLINK:
        if not entry.link or len(entry.link) > MAX_PATH or b"\0" in entry.link:
            raise BuildError(f"{where} holds a symbolic link whose target is no path: {entry.name[:100]!r}.")
        content = Literal(entry.link)
    mode = 0o777 if entry.kind is Member.SYMLINK else entry.mode
    device = entry.kind in (Member.CHARACTER, Member.BLOCK)
    major, minor = (entry.major, entry.minor) if device else (0, 0)
    node = Node(_KINDS[entry.kind], mode, entry.uid, entry.gid, content, major, minor, entry.mtime)
    tree.put(parts, node)
