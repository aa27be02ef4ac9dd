"""The log that nitro-cli's users know, ``<logs>/nitro_enclaves.log``; an enclave's record has its lines too.

Line format of nitro-tools 1.2: ``[<id>][<LEVEL>][<time>Z][<file>:<line>] <message>``. ``RUST_LOG`` says
what goes into the log, but not what into the record, which is to tell why an enclave ended. A log that cannot
be written never stops an enclave; what goes in is one line of bounded length, whatever a guest put into it.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cloister.log_levels import LEVELS, LOG_NAME, level_from

UNNAMED: Final = "enc-xxxxxxx"
"""What an enclave's process is called before it has a slot."""
MAX_MESSAGE: Final = 2000


class Journal:
    """Writes lines for one enclave; its own record begins once the enclave has an id."""

    def __init__(self, logs: Path, wanted: str | None = None) -> None:
        """Write under ``logs`` what ``wanted``, the value of RUST_LOG, asks for."""
        self._logs = logs
        self._most = LEVELS.index(level_from(wanted, strict=False))
        self._name = UNNAMED
        self._record: Callable[[bytes], None] = lambda _: None

    def name(self, slot_hex: str, record: Callable[[bytes], None]) -> None:
        """From here on the lines carry the enclave's slot and go to its record too."""
        self._name = f"enc-{slot_hex}"
        self._record = record

    def write(self, level: str, message: str) -> None:
        """Write one line; ``level`` is INFO, WARN or ERROR, and the place in our code is the caller's."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        caller = sys._getframe(1)  # noqa: SLF001 -- as every logger does
        where = f"{caller.f_code.co_filename.rpartition('/')[2]}:{caller.f_lineno}"
        text = "".join(c if c.isprintable() else " " for c in message[:MAX_MESSAGE])
        line = f"[{self._name}:{os.getpid()}][{level}][{now}Z][{where}] {text}\n".encode()
        self._record(line)
        if LEVELS.index(level) > self._most:
            return
        with suppress(OSError):
            _append(self._logs / LOG_NAME, line)


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(path, flags, 0o600)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)
