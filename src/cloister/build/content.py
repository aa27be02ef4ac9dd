"""Where a file's bytes come from: memory, a file, or a stretch of one, read when they are written.

Nothing is held in memory and nothing is unpacked to disk: a tree of a gigabyte is an index of names and
offsets.
"""

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cloister.errors import CloisterError

CHUNK: Final = 1 << 20
"""Bytes read at a time."""


class BuildError(CloisterError):
    """The image cannot be built from this source."""


class FileError(BuildError):
    """A file that was named cannot be opened."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be opened: {reason}.")
        self.path = path


class Content(Protocol):
    """Bytes of a known length."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def chunks(self) -> Iterator[bytes]:
        """Yield exactly ``size`` bytes; raises BuildError when they are no longer there."""


@dataclass(frozen=True, slots=True)
class Literal:
    """Content that is at hand."""

    value: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.value)

    def chunks(self) -> Iterator[bytes]:
        """Yield the value."""
        if self.value:
            yield self.value


class OpenFile(Protocol):
    """Anything with a descriptor to read from."""

    def fileno(self) -> int:
        """Return the descriptor."""


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of an open file; whoever opened the file closes it."""

    file: OpenFile
    offset: int
    size: int
    name: str
    """For messages."""

    def read_at(self, position: int, size: int) -> bytes:
        """Return up to ``size`` bytes from a position inside the region."""
        size = min(size, self.size - position)
        return os.pread(self.file.fileno(), size, self.offset + position) if size > 0 else b""

    def part(self, position: int, size: int) -> "Region":
        """Return a region inside this one; the caller has checked the bounds."""
        return Region(self.file, self.offset + position, size, self.name)

    def read(self, limit: int) -> bytes:
        """Return everything; raises BuildError beyond ``limit`` bytes."""
        if self.size > limit:
            raise BuildError(f"{self.name} is {self.size} bytes long; expected at most {limit}.")
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """Yield the region's bytes."""
        position = 0
        while position < self.size:
            chunk = self.read_at(position, CHUNK)
            if not chunk:
                raise BuildError(f"{self.name} became shorter while it was being read.")
            position += len(chunk)
            yield chunk

    def stream(self) -> io.BufferedReader:
        """Return the region as a file that can be read forward."""
        return io.BufferedReader(_RegionStream(self), CHUNK)


class _RegionStream(io.RawIOBase):
    def __init__(self, region: Region) -> None:
        super().__init__()
        self._region = region
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override] # typeshed says Buffer, 3.12's
        chunk = self._region.read_at(self._position, len(buffer))
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file of a source directory, opened when it is written; what it was when indexed, it must still be."""

    path: bytes
    size: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes; raises BuildError when it changed its size or kind."""
        shown = os.fsdecode(self.path)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BuildError(f"{shown} cannot be read: {error.strerror}.") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != self.size:
                raise BuildError(f"{shown} changed while the image was being built.")
            position = 0
            while position < self.size:
                chunk = os.pread(descriptor, min(CHUNK, self.size - position), position)
                if not chunk:
                    raise BuildError(f"{shown} became shorter while it was being read.")
                position += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)


def encode_text(text: str, what: str) -> bytes:
    """Return a word's bytes, also one that was given as bytes that are no UTF-8; raises BuildError."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BuildError(f"{what} holds half a character, which has no bytes: {text[:100]!a}.") from None


def open_region(path: Path) -> tuple[io.BufferedReader, Region]:
    """Open a regular file as a region and return the file to close; raises FileError."""
    try:
        # without waiting for a pipe's other end
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise FileError(path, "it is not a regular file")
    return file, Region(file, 0, status.st_size, str(path))


def read_bounded(path: Path, limit: int) -> bytes:
    """Return a whole small file; raises FileError, or BuildError beyond ``limit`` bytes."""
    file, region = open_region(path)
    with file:
        return region.read(limit)
