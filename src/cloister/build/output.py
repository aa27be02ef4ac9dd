"""A file that appears whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cloister.build.content import BuildError


def check_output(path: Path) -> None:
    """Refuse early what could not be written in the end; raises BuildError."""
    if not path.parent.is_dir():
        raise BuildError(f"The output's directory {path.parent} does not exist.")
    if path.is_dir():
        raise BuildError(f"The output {path} is a directory.")
    if path.exists() and not path.is_file():  # it would be replaced: /dev/null, for everybody on the host
        raise BuildError(f"The output {path} is a device, pipe or socket; expected a file.")


def check_space(directory: Path, needed: int, what: str) -> None:
    """Refuse early what the file system has no room for; raises BuildError.

    ``what`` begins the message. Bytes; a file system that does not know its size is taken at its word.
    """
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if status.f_blocks and free < needed:
        raise BuildError(f"{what} needs {needed:,} bytes in {directory}, where {free:,} are free.")


@contextmanager
def atomic_output(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` and rename it at the end; a failure leaves nothing.

    A symbolic link goes on pointing there.
    """
    check_output(path)
    path = Path(os.path.realpath(path))  # resolve() raises for a circle of links
    check_output(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:  # from before it is made: an interruption may come between any two steps
        with temporary.open("x+b") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise BuildError(f"The output {path} cannot be written: {os.strerror(error.errno or 0)}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
