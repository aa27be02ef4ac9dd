"""Where records stand, and how one is found among them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cloister.flight.record import MAX_RECORD, RECORD, FlightError, FlightRecord

ENCLAVES: Final = "enclaves"
EVENTS: Final = "events.log"
CONSOLE: Final = "console.log"
OLDER: Final = "console.log.1"
"""The console's output before what is in the other file."""
MAX_FILE: Final = 4 << 20
"""Bytes read of a log, at most; a recorder writes less."""


def shelf(logs: Path) -> Path:
    """Return the directory of all records."""
    return logs / ENCLAVES


def directory_of(logs: Path, enclave_id: str) -> Path:
    """Return where an enclave's record is; raises FlightError for an id that leads elsewhere."""
    if enclave_id in ("", ".", "..") or "/" in enclave_id or "\0" in enclave_id:
        raise FlightError(f"'{enclave_id[:100]}' is not an enclave's id.")
    return shelf(logs) / enclave_id


def load_record(directory: Path) -> FlightRecord | None:
    """Return the record in a directory, or None when it is absent or damaged."""
    try:
        return FlightRecord.from_json(directory, _read(directory / RECORD, MAX_RECORD))
    except (OSError, FlightError):
        return None


def list_records(logs: Path) -> list[FlightRecord]:
    """Return every record, the oldest first; damaged ones are skipped."""
    records = (load_record(directory) for directory in _directories(logs))
    return sorted(
        (record for record in records if record is not None),
        key=lambda record: (record.started, _age(record)),
    )


def find_record(logs: Path, name_or_id: str, *, previous: bool = False) -> FlightRecord:
    """Return the newest record of that name or id, or the one before it of the same name.

    Raises FlightError when there is none.
    """
    records = list_records(logs)
    found = [record for record in records if name_or_id in (record.enclave_id, record.enclave_name)]
    if not found:
        raise FlightError(f"There is no record of an enclave with the name or id '{name_or_id}'.")
    newest = found[-1]
    if not previous:
        return newest
    earlier = [record for record in records if record.enclave_name == newest.enclave_name]
    earlier = earlier[: earlier.index(newest)]
    if not earlier:
        raise FlightError(f"There is no record of an enclave '{newest.enclave_name}' before the newest.")
    return earlier[-1]


def read_console(record: FlightRecord) -> bytes:
    """Return what is kept of the console's output, 1 to 2 MiB at most; nothing in production mode."""
    return _read_or_nothing(record.directory / OLDER) + _read_or_nothing(record.directory / CONSOLE)


def read_events(record: FlightRecord) -> str:
    """Return the supervisor's lines about the enclave."""
    return _read_or_nothing(record.directory / EVENTS).decode(errors="replace")


def ended_beyond(logs: Path, kept: int) -> list[Path]:
    """Return the directories of the oldest ended enclaves beyond so many; damaged records count as ended."""
    directories = sorted((path for path in _directories(logs) if _slot(path)), key=_slot)
    surplus = []
    for directory in directories[: max(0, len(directories) - kept)]:
        record = load_record(directory)
        if record is None or record.is_over:
            surplus.append(directory)
    return surplus


def _directories(logs: Path) -> Iterator[Path]:
    try:
        with os.scandir(shelf(logs)) as entries:
            yield from [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return


def _slot(directory: Path) -> int:
    try:  # a slot begins with the time it was made (nitro-tools 1.5)
        return int(directory.name.rpartition("-enc")[2], 16)
    except ValueError:
        return 0


def _age(record: FlightRecord) -> int:
    return _slot(record.directory)


def _read(path: Path, limit: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        content = b""
        while len(content) < limit and (piece := os.read(file, limit - len(content))):
            content += piece
        return content
    finally:
        os.close(file)


def _read_or_nothing(path: Path) -> bytes:
    try:
        return _read(path, MAX_FILE)
    except OSError:
        return b""
