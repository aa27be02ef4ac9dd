"""The register of enclaves: one file a live enclave, ``<run>/<slot hex>.json``, locked by its supervisor.

A supervisor reserves its place (``.<slot hex>``, shown to nobody) before it starts anything, and enters the
enclave once that has a name. One that was killed holds no lock: whoever looks next removes what it left.
Names are given under the register's lock, so that two enclaves started at once do not get the same one.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cloister.control.leftovers import free_claims, kill_strays, note_death
from cloister.control.messages import ControlError
from cloister.resources import sweep_dead_claims

SOCKET: Final = ".sock"
RECORD: Final = ".json"
LOCK: Final = ".lock"
MAX_RECORD: Final = 8192


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of an enclave without asking it."""

    slot: str
    """Hexadecimal, without leading zeros."""
    enclave_id: str
    name: str
    cid: int
    pid: int
    logs: str = ""
    """Where its flight record is kept."""


class Registration:
    """A supervisor's place in the register, for as long as it lives; a record once the enclave is entered."""

    def __init__(self, register: "Register", slot: str, lock: int) -> None:
        self.slot = slot
        self._register = register
        self._lock = lock
        self._path = register.run / f".{slot}"
        self._record: Record | None = None

    @property
    def record(self) -> Record:
        """What others see of the enclave, once it is entered."""
        assert self._record is not None
        return self._record

    @property
    def socket_path(self) -> Path:
        """Where the enclave's control socket belongs."""
        return self._register.run / f"{self.slot}{SOCKET}"

    def enter(self, enclave_id: str, name: str, cid: int, *, logs: Path | None = None) -> Record:
        """Enter an enclave as ``name``, or the first free of ``name_1``, ``name_2``… (nitro-tools 1.5).

        Raises ControlError.
        """
        self._register.live()  # buries the dead, whose names are free
        with self._register.locked():
            taken = {record.name for record in self._register.survey()[0]}
            free = name
            for number in range(1, len(taken) + 1):
                if free not in taken:
                    break
                free = f"{name}_{number}"
            kept = "" if logs is None else str(logs.absolute())
            record = Record(self.slot, enclave_id, free, cid, os.getpid(), kept)
            _write_record(self._lock, record)
            path = self._register.run / f"{self.slot}{RECORD}"
            self._path.rename(path)  # a record is never seen without its lock
            self._path, self._record = path, record
        return record

    def leave(self) -> None:
        """Be seen no more, but keep the place: the supervisor may yet be killed while it undoes things."""
        place = self._register.run / f".{self.slot}"
        with suppress(OSError):
            self.socket_path.unlink(missing_ok=True)
            self._path.rename(place)
            self._path = place

    def close(self) -> None:
        """Give up the place; safe to call again."""
        if self._lock < 0:
            return
        for path in (self.socket_path, self._path):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1


class Register:
    """The register under one directory of sockets."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def reserve(self, slot: str) -> Registration:
        """Take a place, before anything is started that would have to be cleaned up; raises ControlError."""
        with self.locked():  # so that nobody who looks for the dead sees it before it is locked
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                lock = os.open(self.run / f".{slot}", flags, 0o600)  # nobody else can lock it before this
            except OSError as error:
                raise _unusable(self.run, error) from None
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.fchmod(lock, 0o644)  # whatever the umask: other users may know of the enclave
        return Registration(self, slot, lock)

    def enter(self, slot: str, enclave_id: str, name: str, cid: int) -> Registration:
        """Reserve a place and enter an enclave at once; raises ControlError."""
        registration = self.reserve(slot)
        try:
            registration.enter(enclave_id, name, cid)
        except BaseException:
            registration.close()
            raise
        return registration

    def live(self) -> list[Record]:
        """Return the enclaves whose supervisors live, oldest first; removes what dead ones left."""
        records, dead = self.survey()
        if dead:
            with suppress(ControlError), self.locked():
                dead = self.survey()[1]  # a place that was just being taken looked like one
                kill_strays([_slot_of(name) for name in dead])
                for name in dead:
                    self._bury(name)
            free_claims(self.run)
            sweep_dead_claims(self.run)
        return records

    def survey(self) -> tuple[list[Record], list[str]]:
        """Return the living's records, oldest first, and the files of this user's dead supervisors."""
        records, dead = [], []
        for name, slot in self._files():
            with suppress(OSError), _opened(self.run / name) as file:
                if not _is_locked(file):
                    if os.fstat(file).st_uid == os.geteuid():
                        dead.append(name)
                elif name.endswith(RECORD) and (record := _read_record(file, slot)) is not None:
                    records.append(record)
        return sorted(records, key=lambda record: int(record.slot, 16)), dead  # a slot begins with the time

    def _files(self) -> list[tuple[str, str]]:
        """Return the names of records and reservations, and the slots in them."""
        try:
            names = os.listdir(self.run)  # noqa: PTH208 -- names are all that is needed
        except OSError:
            return []
        found = [(name, _slot_of(name)) for name in names]
        return [
            (name, slot) for name, slot in found if name in (f".{slot}", f"{slot}{RECORD}") and _is_slot(slot)
        ]

    def _bury(self, name: str) -> None:
        """Remove what a dead supervisor left in the register; the register is locked."""
        path = self.run / name
        with suppress(OSError), _opened(path) as file:
            if _is_locked(file):
                return
            slot = _slot_of(name)
            record = _read_record(file, slot)
            if record is None and name.endswith(RECORD):
                return  # damaged, or nothing of ours
            if record is not None:
                note_death(record.logs, record.enclave_id)
            for left in (self.run / f"{slot}{SOCKET}", path):
                left.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the register's lock: short, for giving places and names; raises ControlError."""
        try:
            self.run.mkdir(parents=True, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)
            lock = os.open(self.run / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(self.run, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _unusable(run: Path, error: OSError) -> ControlError:
    return ControlError(f"The directory {run} cannot hold sockets: {error.strerror}.")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield file
    finally:
        os.close(file)


def _is_locked(file: int) -> bool:
    """Say whether a supervisor holds the file; else this process does, together with all who look."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _slot_of(name: str) -> str:
    """Return the slot in the name of a record or a reservation."""
    return name.removesuffix(RECORD).removeprefix(".")


def _is_slot(text: str) -> bool:
    return text != "" and not set(text) - set("0123456789abcdef")


def _read_record(file: int, slot: str) -> Record | None:
    try:
        record = Record(**json.loads(os.read(file, MAX_RECORD)))
    except (ValueError, TypeError, RecursionError):
        return None
    # the numbers become paths and process ids: they must be numbers
    numbers = type(record.cid) is int and type(record.pid) is int and _is_slot(slot)
    texts = all(type(text) is str for text in (record.enclave_id, record.name, record.logs))
    return record if numbers and texts and record.slot == slot else None


def _write_record(file: int, record: Record) -> None:
    content = json.dumps(asdict(record)).encode()
    if len(content) > MAX_RECORD:  # nobody would read it, and the enclave could not be found
        raise ControlError(
            f"An enclave's name of {len(record.name)} characters is too long to be registered."
        )
    try:
        written = os.write(file, content)
    except OSError as error:
        raise ControlError(
            f"The record of enclave {record.enclave_id} cannot be written: {error.strerror}."
        ) from None
    if written != len(content):
        raise ControlError(f"The record of enclave {record.enclave_id} cannot be written: the disk is full.")
