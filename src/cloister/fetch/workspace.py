"""Room for an image on its way: a private directory that is gone afterwards, whatever happens.

Its size is that of the layers as they are stored. A process that was killed leaves its own behind; whoever
makes the next one removes those that nobody holds.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cloister.fetch.limits import FetchError

_PREFIX: Final = "fetch-"


@contextmanager
def open_workspace(artifacts: Path) -> Iterator[Path]:
    """Make a directory below ``artifacts`` and remove it at the end; raises FetchError."""
    held = -1
    try:
        artifacts.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (artifacts / f".{_PREFIX}lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _sweep(artifacts)
            workspace = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=artifacts))
            held = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise FetchError(f"{artifacts} cannot hold temporary files: {error.strerror}.") from error
    try:
        yield workspace
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
        os.close(held)


def _sweep(artifacts: Path) -> None:
    """Remove what killed processes left."""
    for left in artifacts.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # held by its maker, or another user's
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)


def bytes_in(directory: Path) -> int:
    """Return what the files below a directory occupy, of those that can be seen."""
    total = 0
    for where, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += os.lstat(Path(where, name)).st_blocks * 512
    return total
