"""One enclave's record: its fields, and their form in ``record.json``."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cloister.errors import CloisterError

RECORD: Final = "record.json"
MAX_RECORD: Final = 1 << 16
"""Bytes; an enclave's name and its image's path are bounded elsewhere to less."""
CAUSES: Final = frozenset(
    {
        "exited",
        "killed-by-signal",
        "panic",
        "init-failed",
        "reset",
        "terminated",
        "socket-removed",
        "machine-killed",
        "machine-failed",
        "device-misused",
        "boot-timeout",
        "start-failed",
        "supervisor-killed",
    }
)


class FlightError(CloisterError):
    """There is no such record, or it cannot tell what is asked of it."""


@dataclass(frozen=True, slots=True)
class FlightRecord:
    """What is known of one enclave, running or over."""

    directory: Path
    enclave_name: str
    enclave_id: str
    process_id: int
    cid: int
    cpu_ids: tuple[int, ...]
    memory_mib: int
    debug: bool
    image: str
    """The image's path as it was given."""
    measurements: dict[str, str] | None
    """The image's, as nitro-cli prints them; None before they are known."""
    started: datetime
    booted: datetime | None = None
    ended: datetime | None = None
    cause: str | None = None
    """Why it ended, one of a dozen words (see `CAUSES`)."""
    reason: str | None = None
    """Why it ended, as a sentence."""
    exit_status: int | None = None
    """The program's, 0 to 255, if it exited."""
    signal: int | None = None
    """The signal that killed the program, if one did."""

    @property
    def is_over(self) -> bool:
        """Whether the enclave has ended."""
        return self.ended is not None

    def to_json(self) -> dict[str, Any]:
        """Return the fields of ``record.json``, with nitro-cli's names where it has any."""
        return {
            "EnclaveName": self.enclave_name,
            "EnclaveID": self.enclave_id,
            "ProcessID": self.process_id,
            "EnclaveCID": self.cid,
            "NumberOfCPUs": len(self.cpu_ids),
            "CPUIDs": list(self.cpu_ids),
            "MemoryMiB": self.memory_mib,
            "Debug": self.debug,
            "Image": self.image,
            "Measurements": self.measurements,
            "Started": _written(self.started),
            "Booted": _written(self.booted),
            "Ended": _written(self.ended),
            "Cause": self.cause,
            "Reason": self.reason,
            "ExitStatus": self.exit_status,
            "Signal": self.signal,
        }

    @classmethod
    def from_json(cls, directory: Path, text: bytes) -> "FlightRecord":
        """Read a record; raises FlightError when it is damaged or another enclave's."""
        try:
            fields = _Fields(json.loads(text))
            record = cls(
                directory,
                enclave_name=fields.take("EnclaveName", str),
                enclave_id=fields.take("EnclaveID", str),
                process_id=fields.take("ProcessID", int),
                cid=fields.take("EnclaveCID", int),
                cpu_ids=tuple(fields.numbers("CPUIDs")),
                memory_mib=fields.take("MemoryMiB", int),
                debug=fields.take("Debug", bool),
                image=fields.take("Image", str),
                measurements=fields.texts("Measurements"),
                started=_read(fields.take("Started", str)),
                booted=_read_optional(fields.optional("Booted", str)),
                ended=_read_optional(fields.optional("Ended", str)),
                cause=fields.optional("Cause", str),
                reason=fields.optional("Reason", str),
                exit_status=fields.optional("ExitStatus", int),
                signal=fields.optional("Signal", int),
            )
        except (ValueError, RecursionError) as error:
            raise FlightError(f"The record in {directory} is damaged: {error}.") from None
        if record.enclave_id != directory.name:  # what is told of an enclave is found under its id
            raise FlightError(f"The record in {directory} is another enclave's.")
        return record


class _Fields:
    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise ValueError("it is not an object")  # noqa: TRY004 -- told as any other damage
        self._fields = fields

    def take(self, name: str, kind: type) -> Any:
        value = self._fields.get(name)
        if type(value) is not kind:
            raise ValueError(f"{name} is not of type {kind.__name__}")
        return value

    def optional(self, name: str, kind: type) -> Any:
        return None if self._fields.get(name) is None else self.take(name, kind)

    def numbers(self, name: str) -> list[int]:
        values = self.take(name, list)
        if not all(type(value) is int for value in values):
            raise ValueError(f"{name} is not a list of numbers")
        return list(values)

    def texts(self, name: str) -> dict[str, str] | None:
        values = self.optional(name, dict)
        if values is not None and not all(isinstance(value, str) for value in values.values()):
            raise ValueError(f"{name} is not an object of texts")
        return values  # type: ignore[no-any-return] # checked above


def _written(time: datetime | None) -> str | None:
    """RFC 3339 with milliseconds, in UTC."""
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _read(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"the time {text} has no zone")
    return time


def _read_optional(text: str | None) -> datetime | None:
    return None if text is None else _read(text)
