"""Standard streams that are closed, that nobody reads, or that cannot be written."""

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Any, Final

_LAST_STANDARD: Final = 2


def open_closed_streams() -> None:
    """Give closed standard streams a place to go, before files of ours take their numbers.

    What the locale cannot spell is spelled out, for names come from everywhere; bytes that are no UTF-8 stay.
    """
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _open_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _open_closed() -> None:
    while (handle := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        continue
    os.close(handle)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def silence(stream: Any) -> None:
    """Keep the interpreter from complaining, at its end, of a stream that cannot be written."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):  # closed already, or no file at all
        return


def silence_both() -> None:
    """Do so for standard output and standard error: nobody reads."""
    silence(sys.stdout)
    silence(sys.stderr)


def flush_help() -> None:
    """Write what argparse has printed; a stream that cannot take it is passed over, as argparse does."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)


def tell_failure(program: str, error: OSError) -> None:
    """Say on standard error, if that can be written, which file or stream failed and why."""
    if error.filename is None:  # what is still to be written would fail again
        silence(sys.stdout)
    where = "standard output" if error.filename is None else os.fsdecode(error.filename)
    with suppress(OSError):
        print(f"{program}: {where}: {error.strerror or error}.", file=sys.stderr, flush=True)
