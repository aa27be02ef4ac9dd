"""The log that nitro-cli's users know: ``<logs>/nitro_enclaves.log``, and one beside it for each enclave.

Line format of nitro-tools 1.2: ``[<id>][<LEVEL>][<time>Z][<file>] <message>``. A log that cannot be written
never stops an enclave; what goes in is one line of bounded length, whatever a guest put into it.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

LOG_NAME: Final = "nitro_enclaves.log"
ENCLAVES: Final = "enclaves"
MAX_MESSAGE: Final = 2000


class Journal:
    """Writes lines for one enclave; the per-enclave file begins once the enclave has an id."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._name = "enc-xxxxxxx"
        self._own: Path | None = None

    def name(self, slot_hex: str, enclave_id: str) -> None:
        """From here on the lines carry the enclave's slot and go to its own file too."""
        self._name = f"enc-{slot_hex}"
        self._own = self._logs / ENCLAVES / f"{enclave_id}.log"

    def write(self, level: str, message: str, *, where: str = "supervisor") -> None:
        """Write one line; ``level`` is INFO, WARN or ERROR."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        text = "".join(c if c.isprintable() else " " for c in message[:MAX_MESSAGE])
        line = f"[{self._name}:{os.getpid()}][{level}][{now}Z][{where}] {text}\n".encode()
        for path, mode in ((self._logs / LOG_NAME, 0o600), (self._own, 0o600)):
            if path is not None:
                with suppress(OSError):
                    _append(path, line, mode)


def _append(path: Path, line: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, mode)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)
