"""The lock file: which packages and wheels an example's root filesystem is made of, by version and digest.

It names no host: package paths are relative to whatever archive this machine's apt uses, wheels come from
whatever index its pip uses, and the digests decide whether what arrived is what was meant.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from cloister.errors import CloisterError

FORMAT = 1


class LockError(CloisterError):
    """The lock file is missing, malformed, or names something that can no longer be had."""


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One distribution package: ``filename`` is its path inside the archive, ``size`` is in bytes."""

    name: str
    version: str
    architecture: str
    filename: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LockedWheel:
    """One Python wheel."""

    name: str
    version: str
    filename: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Lock:
    """Everything a root filesystem is made of, apart from this library's own source."""

    suites: tuple[str, ...]
    architecture: str
    packages: tuple[LockedPackage, ...]
    wheels: tuple[LockedWheel, ...]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse a lock file; LockError says what is wrong with it."""
        try:
            fields = json.loads(text)
            if fields["format"] != FORMAT:
                raise LockError(f"the lock file has format {fields['format']!r}, {FORMAT} was expected")
            return cls(
                suites=tuple(_word(suite) for suite in fields["suites"]),
                architecture=_word(fields["architecture"]),
                packages=tuple(LockedPackage(**_checked(entry)) for entry in fields["packages"]),
                wheels=tuple(LockedWheel(**_checked(entry)) for entry in fields["wheels"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LockError(f"the lock file is malformed: {error}") from error

    def to_json(self) -> str:
        """Return the file's text, one canonical form for one lock."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def read_lock(path: Path) -> Lock:
    """Read a lock file; LockError names the file and what is wrong with it."""
    try:
        return Lock.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LockError(f"the lock file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LockError(f"the lock file {path} is not UTF-8 at byte {error.start}") from error
    except LockError as error:
        raise LockError(f"{path}: {error}") from error


def _word(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._+-]+", value):
        raise ValueError(f"{value!r} is not a name")
    return value


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    """Refuse what would escape a directory, or is no digest, before anything is fetched by it."""
    filename = entry["filename"]
    if "://" in filename or filename.startswith("/") or ".." in Path(filename).parts:
        raise ValueError(f"the file name {filename!r} is not a relative path")
    if not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]):
        raise ValueError(
            f"{filename} has the digest {entry['sha256']!r}, 64 hexadecimal digits were expected"
        )
    return entry
