"""The enclaves of this user: the living from the register, the dead from their records."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime

from cloister.control import Record, Register
from cloister.errors import CloisterError
from cloister.flight import FlightError, FlightRecord, find_record, list_records, mark_supervisor_killed
from cloister.places import Places


class RunningError(CloisterError):
    """There is no such enclave, or it cannot be watched or ended."""


@dataclass(frozen=True, slots=True)
class Enclave:
    """One enclave: an entry in the register while it lives, a record unless that could not be written."""

    enclave_id: str
    name: str
    entry: Record | None
    record: FlightRecord | None

    @property
    def is_live(self) -> bool:
        """Whether its supervisor lives."""
        return self.entry is not None

    @classmethod
    def of(cls, entry: Record | None, record: FlightRecord | None) -> "Enclave":
        """Join what is known of one enclave; at least one of the two is."""
        if entry is not None:
            return cls(entry.enclave_id, entry.name, entry, record)
        assert record is not None
        return cls(record.enclave_id, record.enclave_name, None, record)


def list_enclaves(places: Places) -> list[Enclave]:
    """Return every enclave, the oldest first; those whose supervisor was killed are marked so."""
    records = {record.enclave_id: record for record in list_records(places.logs)}
    entries = {entry.enclave_id: entry for entry in Register(places.run).live()}
    for enclave_id, record in records.items():
        if enclave_id not in entries and not record.is_over:
            records[enclave_id] = load(places, enclave_id) or record
    ids = sorted(records.keys() | entries.keys(), key=_age)
    return [Enclave.of(entries.get(enclave_id), records.get(enclave_id)) for enclave_id in ids]


def find_enclave(places: Places, word: str, *, previous: bool = False) -> Enclave:
    """Return the enclave of that name or id: the living one, else the newest; raises RunningError.

    ``previous`` is the one before the newest of that name.
    """
    if not previous and (entry := _live_of(places, word)) is not None:
        return Enclave.of(entry, load(places, entry.enclave_id))
    try:
        found = find_record(places.logs, word, previous=previous)
    except FlightError as error:
        raise RunningError(f"{error} 'cloister ps -a' lists those there are.") from None
    record = load(places, found.enclave_id) or found
    entry = next((e for e in Register(places.run).live() if e.enclave_id == found.enclave_id), None)
    return Enclave.of(entry, record)


def load(places: Places, enclave_id: str) -> FlightRecord | None:
    """Return an enclave's record, marked when its supervisor is dead and could not write the end itself."""
    try:
        record = find_record(places.logs, enclave_id)
        if not record.is_over and not _exists(record.process_id):
            mark_supervisor_killed(places.logs, enclave_id, datetime.now(UTC))
            record = find_record(places.logs, enclave_id)
    except FlightError:
        return None
    return record


def _live_of(places: Places, word: str) -> Record | None:
    entries = Register(places.run).live()
    return next((entry for entry in reversed(entries) if word in (entry.enclave_id, entry.name)), None)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _age(enclave_id: str) -> int:
    try:  # an id ends in a slot, which begins with the time it was made (nitro-tools 1.5)
        return int(enclave_id.rpartition("-enc")[2], 16)
    except ValueError:
        return 0
