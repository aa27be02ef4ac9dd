"""Where a container image's files lie: a directory, or an archive read by index."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from cloister.build.content import BuildError, Region, open_region
from cloister.build.tar import Member, TarEntry, read_tar
from cloister.build.tree import split_path

_MAX_LINKS: Final = 8
"""``docker save`` links equal layers to each other."""


class FileStore(Protocol):
    """Files by name."""

    name: str

    def find(self, name: str) -> Region | None:
        """Return a file, or nothing."""


def require(store: FileStore, name: str) -> Region:
    """Return a file; raises BuildError when it is not there."""
    region = store.find(name)
    if region is None:
        raise BuildError(f"{store.name} has no file {name[:100]!r}, which it should hold.")
    return region


class DirectoryStore:
    """The files of a directory; names must not lead out of it."""

    def __init__(self, directory: Path, held: ExitStack) -> None:
        self.name = str(directory)
        self._directory = directory
        self._held = held
        self._regions: dict[str, Region] = {}

    def find(self, name: str) -> Region | None:
        """Return a file, which stays open as long as ``held``."""
        if name not in self._regions:
            parts = split_path(os.fsencode(name), self.name)
            path = self._directory.joinpath(*map(os.fsdecode, parts))
            if not path.resolve().is_relative_to(self._directory.resolve()):
                raise BuildError(f"{path} leads out of {self._directory}; it is refused.")
            if not path.exists():
                return None
            file, self._regions[name] = open_region(path)
            self._held.enter_context(file)
        return self._regions[name]


class ArchiveStore:
    """The members of a tar archive; later ones replace earlier ones, links inside it are followed."""

    def __init__(self, archive: Region, max_members: int) -> None:
        self.name = archive.name
        self._files: dict[tuple[bytes, ...], Region] = {}
        self._links: dict[tuple[bytes, ...], TarEntry] = {}
        for count, entry in enumerate(read_tar(archive)):
            if count >= max_members:
                raise BuildError(f"{self.name} holds more than {max_members} files; it is refused.")
            parts = split_path(entry.name, self.name)
            if entry.kind is Member.FILE and isinstance(entry.content, Region):  # no blob has holes
                self._files[parts] = entry.content
            elif entry.kind in (Member.HARDLINK, Member.SYMLINK):
                self._links[parts] = (
                    entry  # followed only when asked for: a root file system's may lead anywhere
                )

    def find(self, name: str) -> Region | None:
        """Return a member."""
        parts = split_path(os.fsencode(name), self.name)
        for _ in range(_MAX_LINKS):
            if parts in self._files:
                return self._files[parts]
            if parts not in self._links:
                return None
            link = self._links[parts]
            directory = parts[:-1] if link.kind is Member.SYMLINK else ()
            parts = _relative(directory, link.link, self.name)
        raise BuildError(f"{self.name} holds {name[:100]!r}, which runs in a circle of links.")


def _relative(directory: tuple[bytes, ...], target: bytes, where: str) -> tuple[bytes, ...]:
    """Resolve a symbolic link's text against the directory it is in; raises BuildError when it climbs out."""
    words = target.split(b"/")
    while words and words[0] == b"..":
        if not directory:
            raise BuildError(f"{where} holds a link that climbs out of it: {target[:100]!r}.")
        directory, words = directory[:-1], words[1:]
    return (*directory, *split_path(b"/".join(words), where))
