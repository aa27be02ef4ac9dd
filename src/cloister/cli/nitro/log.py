"""nitro-cli's log, ``<logs>/nitro_enclaves.log``: every command needs it before it does anything.

Line format and levels: nitro-tools 1.1 and 1.2. Beyond AWS: one line a message, mode 0600.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from cloister.cli.nitro.errors import NitroCliError
from cloister.log_levels import LEVELS, LOG_NAME, LogLevelError, level_from

MAX_MESSAGE: Final = 4000


def stamp(nanoseconds: int, *, digits: int) -> str:
    """Return a moment since 1970 in RFC 3339, UTC, without the zone."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09}"[: 20 + digits]


class Log:
    """The open log of one command."""

    def __init__(self, logs: Path) -> None:
        """Open the log; raises NitroCliError E19 and E56."""
        self._logs = logs
        path = logs / LOG_NAME
        try:
            logs.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(path, flags, 0o600)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise NitroCliError(
                "E19",
                f"File operation failure. The log cannot be opened: {reason}."
                f"\nFile: '{path}', failing operation: 'Open'.",
                action="Failed to open log file",
            ) from None
        try:
            self._most = LEVELS.index(level_from(os.environ.get("RUST_LOG"), strict=True))
        except LogLevelError as error:
            raise NitroCliError(
                "E56", f"Logger error. {error}", action="Failed to initialize logger"
            ) from None

    def write(self, level: str, message: str, *, where: str | None = None) -> None:
        """Write one line if ``level`` is asked for; a full disk is no reason to stop."""
        if LEVELS.index(level) > self._most:
            return
        if where is None:
            caller = sys._getframe(1)  # noqa: SLF001 -- inspect takes 10 ms to import
            where = f"cloister/cli/nitro/{Path(caller.f_code.co_filename).name}:{caller.f_lineno}"
        now = stamp(time.time_ns(), digits=3)
        text = "".join(c if c.isprintable() else " " for c in message[:MAX_MESSAGE])
        line = f"[nitro-cli:{os.getpid()}][{level}][{now}Z][{where}] {text}\n"
        with suppress(OSError):
            os.write(self._file, line.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def keep_backtrace(logs: Path, backtrace: str) -> str | None:
    """Write an error log file and return its path, or None where that cannot be."""
    path = logs / f"err{stamp(time.time_ns(), digits=9)}+00:00.log"
    try:
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, backtrace.encode("utf-8", "backslashreplace"))
        finally:
            os.close(handle)
    except (OSError, ValueError):
        return None
    return str(path)
