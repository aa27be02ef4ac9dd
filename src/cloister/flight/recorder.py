"""Writes an enclave's record while it lives. A disk that is full or gone never stops an enclave."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cloister.flight.record import RECORD, FlightRecord
from cloister.flight.shelf import CONSOLE, EVENTS, OLDER, directory_of, ended_beyond, load_record, shelf

CONSOLE_SIZE: Final = 1 << 20
"""Bytes in one file of console output; the file before it is kept too."""
EVENTS_SIZE: Final = 1 << 20
KEPT: Final = 100
"""Ended enclaves that are remembered."""
_PRIVATE_FILE: Final = 0o600
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class FlightRecorder:
    """One enclave's recorder; what cannot be written is dropped, and the complaint told once."""

    def __init__(
        self, logs: Path, enclave_id: str, *, complain: Callable[[str], None] = lambda _: None
    ) -> None:
        """Record under ``logs``; ``complain`` hears, once, why something could not be written."""
        self._logs = logs
        self._complain: Callable[[str], None] | None = complain
        self._record = FlightRecord(
            directory_of(logs, enclave_id),
            enclave_name="",
            enclave_id=enclave_id,
            process_id=os.getpid(),
            cid=0,
            cpu_ids=(),
            memory_mib=0,
            debug=False,
            image="",
            measurements=None,
            started=datetime.now(UTC),
        )
        self._console: int | None = None
        self._console_size = 0
        self._events_size = 0

    @property
    def record(self) -> FlightRecord:
        """What has been recorded so far."""
        return self._record

    def update(self, **fields: Any) -> None:
        """Set fields of the record (see `FlightRecord`) and write it."""
        self._record = replace(self._record, **fields)
        self._try(lambda: _write_record(self._record))

    def event(self, line: bytes) -> None:
        """Append a line to the events, up to 1 MiB of them: nobody can fill a disk with an enclave's log."""
        if self._events_size + len(line) <= EVENTS_SIZE:
            self._events_size += len(line)
            self._try(lambda: self._append(EVENTS, line))

    def console(self, output: bytes) -> None:
        """Append console output; the last 1 to 2 MiB are kept."""
        self._try(lambda: self._write_console(output))

    def close(self) -> None:
        """Let go of the files; what is written afterwards opens them again."""
        if self._console is not None:
            os.close(self._console)
            self._console = None

    def retire_others(self) -> None:
        """Forget the oldest of the ended enclaves beyond the hundred that are kept."""
        for directory in ended_beyond(self._logs, KEPT):
            shutil.rmtree(directory, ignore_errors=True)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            complain, self._complain = self._complain, None
            if complain is not None:
                complain(f"The record in {self._record.directory} cannot be written: {error.strerror}.")

    def _append(self, name: str, content: bytes) -> None:
        file = self._open(name)
        try:
            _write_all(file, content)
        finally:
            os.close(file)

    def _open(self, name: str) -> int:
        _make_directory(self._record.directory)
        return os.open(self._record.directory / name, _APPEND, _PRIVATE_FILE)

    def _write_console(self, output: bytes) -> None:
        output = output[-CONSOLE_SIZE:]
        if self._console is not None and self._console_size + len(output) > CONSOLE_SIZE:
            self.close()
            with suppress(FileNotFoundError):
                (self._record.directory / CONSOLE).rename(self._record.directory / OLDER)
        if self._console is None:
            self._console = self._open(CONSOLE)
            self._console_size = os.fstat(self._console).st_size
        self._console_size += len(output)
        _write_all(self._console, output)


def mark_supervisor_killed(logs: Path, enclave_id: str, now: datetime) -> None:
    """Note that an enclave's supervisor was killed, unless its end is known; nothing if it has no record."""
    record = load_record(directory_of(logs, enclave_id))
    if record is not None and not record.is_over:
        reason = "The enclave's supervisor was killed."
        with suppress(OSError):
            _write_record(replace(record, ended=now, cause="supervisor-killed", reason=reason))


def _write_record(record: FlightRecord) -> None:
    """Replace the file whole: whoever reads it sees the old one or the new one."""
    _make_directory(record.directory)
    draft = record.directory / f".{RECORD}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(draft, flags, _PRIVATE_FILE)
    try:
        _write_all(file, json.dumps(record.to_json(), indent=2).encode() + b"\n")
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    draft.rename(record.directory / RECORD)


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        shelf(directory.parent.parent).mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.mkdir(exist_ok=True, mode=0o700)


def _write_all(file: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.write(file, content[written:])
