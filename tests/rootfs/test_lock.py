"""Lock files: one canonical text for one lock, and nothing dangerous gets past the reader."""

import json
from pathlib import Path
from typing import Any

import pytest

from cloister.rootfs import EXAMPLES, Lock, LockedPackage, LockedWheel, LockError, read_lock

LOCK = Lock(
    suites=("bookworm",),
    architecture="amd64",
    packages=(LockedPackage("libc6", "2.36-9", "amd64", "pool/main/g/glibc/libc6.deb", 7, "a" * 64),),
    wheels=(LockedWheel("cffi", "2.1", "cffi-2.1.whl", "b" * 64),),
)


def fields(**changes: Any) -> dict[str, Any]:
    """Return a lock file's fields with some changed."""
    return {**json.loads(LOCK.to_json()), **changes}


def test_reading_is_the_inverse_of_writing() -> None:
    """A lock that is written and read is the same lock, with the same digest."""
    again = Lock.from_json(LOCK.to_json())
    assert again == LOCK
    assert again.digest == LOCK.digest


def test_digest_follows_every_pin() -> None:
    """Another digest anywhere in the lock is another digest of the lock."""
    changed = Lock.from_json(LOCK.to_json().replace("b" * 64, "c" * 64))
    assert changed.digest != LOCK.digest


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "format 2"),
        ({"packages": [{"filename": "/etc/passwd", "sha256": "a" * 64}]}, "not a relative path"),
        ({"packages": [{"filename": "pool/../../x", "sha256": "a" * 64}]}, "not a relative path"),
        ({"packages": [{"filename": "http://host/pool/x", "sha256": "a" * 64}]}, "not a relative path"),
        ({"wheels": [{"filename": "a.whl", "sha256": "A" * 64}]}, "64 hexadecimal digits"),
        ({"wheels": [{"filename": "a.whl", "sha256": "a" * 64, "surprise": 1}]}, "malformed"),
        ({"suites": ["book worm"]}, "not a name"),
        ({"suites": 7}, "malformed"),
        ({"packages": None}, "malformed"),
    ],
)
def test_malformed_lock_is_refused(change: dict[str, Any], complaint: str) -> None:
    """A lock that is not one is refused with a sentence that says what is wrong."""
    with pytest.raises(LockError, match=complaint):
        Lock.from_json(json.dumps(fields(**change)))


def test_lock_that_is_not_json_names_its_file(tmp_path: Path) -> None:
    """The file's name is part of the complaint, for a bad file and for none."""
    path = tmp_path / "lock.json"
    with pytest.raises(LockError, match=r"lock\.json cannot be read"):
        read_lock(path)
    path.write_text("{")
    with pytest.raises(LockError, match=r"lock\.json: the lock file is malformed"):
        read_lock(path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/lock.json")), ids=lambda path: path.parent.name)
def test_shipped_locks_name_no_host(path: Path) -> None:
    """The locks in the package are canonical, and hold neither an address nor an absolute path."""
    lock = read_lock(path)
    assert path.read_text() == lock.to_json()
    assert "://" not in path.read_text()
    assert all(pin.filename.startswith("pool/") for pin in lock.packages)
