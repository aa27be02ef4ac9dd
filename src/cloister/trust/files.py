"""The root of trust's files: written whole or not at all, for their owner alone, under one lock.

A file is written beside its place, synced, renamed and its directory synced, so that losing power leaves the
old one or the new one. Everything that changes a file goes through here.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cloister.errors import CloisterError

LOCK_TIMEOUT = 10.0  # seconds; the lock is held for milliseconds
MAX_FILE = 1 << 20  # bytes; ten years of regional authorities are a third of it


class TrustError(CloisterError):
    """The root of trust cannot be used as it is."""


class TrustMissingError(TrustError):
    """There is no root of trust here yet."""


class TrustDamagedError(TrustError):
    """There is a root of trust here, and a part of it is damaged or missing."""

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        super().__init__(f"{path}, {what}, is {'damaged' if path.exists() else 'missing'}: {remedy}")


def make_directory(directory: Path) -> None:
    """Make a directory that its owner alone can enter."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)  # noqa: PTH102 -- every change is a call of os, as write()'s are
    os.chmod(directory, 0o700)  # noqa: PTH101 -- as above


def read(path: Path) -> bytes | None:
    """Return a file's content, at most MAX_FILE bytes of it; None when there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE)
    except FileNotFoundError:
        return None


def was_in_use(directory: Path) -> bool:
    """Tell whether a root of trust was whole here once: what is issued last is there."""
    return (directory / "instance.pem").exists() or (directory / "zonal.pem").exists()


def write(path: Path, content: bytes) -> None:
    """Put a file in place whole, for its owner alone; called under the lock, so one scratch name will do."""
    scratch = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        os.unlink(scratch)  # noqa: PTH108 -- as above
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(scratch, path)  # noqa: PTH105 -- as above
    _sync_directory(path.parent)


def check_elsewhere(directory: Path, path: Path) -> None:
    """Refuse a file of the user's that lies among the root of trust's own; raise TrustError."""
    if directory.resolve() in (path.resolve(), *path.resolve().parents):
        raise TrustError(
            f"'{path}' lies in {directory}, among the root of trust's own files: name a place elsewhere"
        )


def save_text(path: Path, content: bytes) -> None:
    """Write a file of the user's, whole and for its owner alone; raise TrustError."""
    try:
        write(path, content)
    except OSError as error:
        raise TrustError(f"'{path}' cannot be written: {error.strerror}") from error


def remove(path: Path) -> None:
    """Remove a file for good, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 -- as above
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes of this host out; raise TrustError when one of them does not let go."""
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TrustError(
                        f"another process has held {directory / '.lock'} for {LOCK_TIMEOUT} s"
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def reporting(directory: Path) -> Iterator[None]:
    """Turn the file system's complaints into ours."""
    try:
        yield
    except OSError as error:
        name = error.filename or directory
        raise TrustError(
            f"the root of trust in {directory} is out of reach: {name}: {error.strerror}"
        ) from error
