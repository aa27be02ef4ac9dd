"""What an image is made from: told by a prefix or by what lies at the path, and read as one tree.

``dir:``, ``tar:``, ``oci:PATH[:NAME]``, ``oci-archive:FILE[:NAME]``, ``docker-archive:FILE[:NAME]`` as
skopeo spells them (containers-transports(5)); a bare path is looked at. What is elsewhere, ``cloister.fetch``
brings here first.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cloister.build.compression import is_compressed, least_unpacked
from cloister.build.config import ImageConfig
from cloister.build.containers import ContainerImage, read_docker_archive, read_oci
from cloister.build.content import BuildError, Region, open_region
from cloister.build.directory import read_directory
from cloister.build.layers import Progress, apply_archive, apply_layer, check_digest, unpack_archive
from cloister.build.output import check_space
from cloister.build.store import ArchiveStore, DirectoryStore, FileStore
from cloister.build.tree import Limits, Tree

_LOCAL: Final = ("dir", "tar", "oci", "oci-archive", "docker-archive")
_REMOTE: Final = re.compile(r"docker://|docker-daemon:|containers-storage:|ostree:|sif:")


class UnsupportedSourceError(BuildError):
    """The source is not a file or directory of this host, and reading is all that is done here."""


@dataclass(frozen=True, slots=True)
class SourceName:
    """A source as the user wrote it, taken apart."""

    transport: str
    """One of the prefixes, or empty: to be found out."""
    path: Path
    reference: str = ""

    @classmethod
    def parse(cls, text: str) -> "SourceName":
        """Read ``PREFIX:PATH[:NAME]`` or a path; raises BuildError when nothing is there."""
        if _REMOTE.match(text):
            raise UnsupportedSourceError(
                f"{text} is not a directory, tar, OCI layout or docker-archive of this host; "
                "docker://, docker-daemon: and containers-storage: are fetched by 'cloister image build', "
                "other places by 'skopeo copy'."
            )
        prefix, colon, rest = text.partition(":")
        transport = prefix if colon and prefix in _LOCAL else ""
        path, reference = Path(rest if transport else text), ""
        if transport in ("oci", "oci-archive", "docker-archive") and not path.exists():
            head, _, reference = rest.partition(":")
            path = Path(head)
        if not (rest if transport else text):  # an unset variable of a script, which Path reads as "."
            raise BuildError(f"The source {text!r} names nothing; expected a file, a directory or an image.")
        if not path.exists():
            raise BuildError(f"The source {path} does not exist.")
        return cls(transport, path, reference)


@dataclass(frozen=True, slots=True)
class Source:
    """A merged tree and what its image says of itself; valid while it is open."""

    tree: Tree
    config: ImageConfig
    name: str
    """Empty when the source does not name itself."""


@contextmanager
def open_source(
    name: SourceName, *, architecture: str, scratch: Path, limits: Limits, progress: Progress
) -> Iterator[Source]:
    """Read a source; compressed archives are unpacked to unnamed files in ``scratch``. Raises BuildError.

    Together they never take more than ``limits.size`` bytes there, whatever lies in what.
    """
    with ExitStack() as held:
        opener = _Opener(scratch, limits, held, progress)
        if name.path.is_dir():
            if name.transport in ("", "dir") and not _is_layout(name):
                _check_apart(name.path, scratch)
            yield _open_directory(name, architecture, limits, held, opener)
        else:
            yield _open_archive(name, architecture, limits, held, opener)


class _Opener:
    """Opens archives, and keeps count of what they take in the scratch directory."""

    def __init__(self, scratch: Path, limits: Limits, held: ExitStack, progress: Progress) -> None:
        self._scratch, self._limits, self._held, self._progress = scratch, limits, held, progress
        self._free = limits.size

    def reserve(self, archives: Iterable[Region], where: str) -> None:
        """Refuse early what the scratch directory has no room for, as far as the archives tell."""
        check_space(self._scratch, sum(map(least_unpacked, archives)), f"{where}, unpacked,")

    def plain(self, archive: Region, left: int) -> Region:
        """Return the plain tar of at most ``left`` bytes behind a region; raises BuildError."""
        if is_compressed(archive):
            left = min(left, self._free)
        limits = replace(self._limits, size=left)
        unpacked = unpack_archive(archive, self._scratch, limits, self._held, self._progress)
        if unpacked is not archive:
            self._free -= unpacked.size
        return unpacked


def _is_layout(name: SourceName) -> bool:
    looks_oci = (name.path / "oci-layout").is_file() and (name.path / "index.json").is_file()
    return name.transport == "oci" or (not name.transport and looks_oci)


def _check_apart(source: Path, output: Path) -> None:
    """Refuse a directory that the next build would find this one's image in; raises BuildError."""
    if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(source)):
        raise BuildError(
            f"The output lies in the source {source}, and would be part of its next image: put it elsewhere."
        )


def _open_directory(
    name: SourceName, architecture: str, limits: Limits, held: ExitStack, opener: _Opener
) -> Source:
    if _is_layout(name):
        image = read_oci(DirectoryStore(name.path, held), name.reference, architecture)
        return _merge(str(name.path), image, limits, opener)
    if name.transport in ("", "dir"):
        return Source(read_directory(name.path, limits), ImageConfig(), "")
    raise BuildError(f"{name.path} is a directory; {name.transport}: expects a file.")


def _open_archive(
    name: SourceName, architecture: str, limits: Limits, held: ExitStack, opener: _Opener
) -> Source:
    if name.transport in ("dir", "oci"):
        raise BuildError(f"{name.path} is not a directory, which {name.transport}: expects.")
    file, stored = open_region(name.path)
    held.enter_context(file)
    archive = opener.plain(stored, limits.size)
    if name.transport != "tar":
        store = ArchiveStore(archive, limits.entries)
        transport = name.transport or _recognise(store)
        if transport == "oci-archive":
            return _merge(str(name.path), read_oci(store, name.reference, architecture), limits, opener)
        if transport == "docker-archive":
            return _merge(str(name.path), read_docker_archive(store, name.reference), limits, opener)
    tree = Tree(str(name.path), limits)
    apply_archive(tree, archive)
    return Source(tree, ImageConfig(), "")


def _recognise(store: FileStore) -> str:
    """Tell container images from plain trees by the files their formats insist on."""
    if store.find("oci-layout") and store.find("index.json"):
        return "oci-archive"
    manifest = store.find("manifest.json")
    return "docker-archive" if manifest and b'"Layers"' in manifest.read_at(0, 1 << 20) else "tar"


def _merge(where: str, image: ContainerImage, limits: Limits, opener: _Opener) -> Source:
    """Apply the layers, lowest first, each compared with the digests that name it."""
    tree, left = Tree(where, limits), limits.size
    opener.reserve((layer.blob for layer in image.layers), where)
    for number, layer in enumerate(image.layers, 1):
        what = f"{where}: layer {number}"
        unpacked = opener.plain(layer.blob, left)
        left -= unpacked.size
        if layer.digest is not None and (layer.digest != layer.diff_id or unpacked is not layer.blob):
            check_digest(layer.blob, layer.digest, what)
        check_digest(unpacked, layer.diff_id, f"{what}, unpacked,")
        apply_layer(tree, unpacked, limits)
    return Source(tree, image.config, image.name)
