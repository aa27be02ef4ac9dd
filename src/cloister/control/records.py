"""The register of enclaves: one file a live enclave, ``<run>/<slot hex>.json``, locked by its supervisor.

A supervisor that was killed holds no lock; whoever looks next removes what it left (file, socket). Names are
given under the register's lock, so that two enclaves started at once do not get the same one.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cloister.control.leftovers import remove_leftovers
from cloister.control.messages import ControlError
from cloister.resources import sweep_dead_claims

SOCKET: Final = ".sock"
RECORD: Final = ".json"
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


class Registration:
    """An enclave's place in the register, for as long as its supervisor lives."""

    def __init__(self, record: Record, path: Path, lock: int) -> None:
        self.record = record
        self._path = path
        self._lock = lock

    @property
    def socket_path(self) -> Path:
        """Where the enclave's control socket belongs."""
        return self._path.with_suffix(SOCKET)

    def close(self) -> None:
        """Leave the register."""
        for path in (self.socket_path, self._path):
            path.unlink(missing_ok=True)
        os.close(self._lock)


class Register:
    """The register under one directory of sockets."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def enter(self, slot: str, enclave_id: str, name: str, cid: int) -> Registration:
        """Enter an enclave as ``name``, or the first free of ``name_1``, ``name_2``… (nitro-tools 1.5)."""
        with self._locked():
            taken = {record.name for record in self.live()}
            free = name
            for number in range(1, len(taken) + 1):
                if free not in taken:
                    break
                free = f"{name}_{number}"
            record = Record(slot, enclave_id, free, cid, os.getpid())
            path = self.run / f"{slot}{RECORD}"
            draft = self.run / f".{slot}"  # a record is never seen without its lock
            lock = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                _write_record(lock, record)
                draft.rename(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                os.close(lock)
                raise
        return Registration(record, path, lock)

    def live(self) -> list[Record]:
        """Return the enclaves whose supervisors live, oldest first; removes what dead ones left."""
        sweep_dead_claims(self.run)
        records = (self._read(path) for path in sorted(self.run.glob(f"*{RECORD}"), key=_age))
        return [record for record in records if record is not None]

    def _read(self, path: Path) -> Record | None:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            record = Record(**json.loads(os.read(handle, MAX_RECORD)))
            # the numbers become paths and process ids: they must be numbers
            if record.slot != path.stem or type(record.cid) is not int or type(record.pid) is not int:
                return None
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                remove_leftovers(self.run, record.slot, record.cid)
                return None
            return record
        except (OSError, ValueError, TypeError):
            return None
        finally:
            os.close(handle)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.run.mkdir(parents=True, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)
            lock = os.open(self.run / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ControlError(f"The directory {self.run} cannot hold sockets: {error.strerror}.") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _write_record(file: int, record: Record) -> None:
    content = json.dumps(asdict(record)).encode()
    if len(content) > MAX_RECORD:  # nobody would read it, and the enclave could not be found
        raise ControlError(
            f"An enclave's name of {len(record.name)} characters is too long to be registered."
        )
    if os.write(file, content) != len(content):
        raise ControlError(f"The record of enclave {record.enclave_id} cannot be written: the disk is full.")


def _age(path: Path) -> int:
    try:
        return int(path.stem, 16)  # a slot begins with the time it was made
    except ValueError:
        return 0
