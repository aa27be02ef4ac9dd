"""The fields of tar headers: numbers, times, names. Raises BuildError for what is none.

Formats: POSIX ustar and pax (IEEE Std 1003.1, pax), GNU's base-256 numbers (tar(5)).
"""

import re
from typing import Final

from cloister.build.content import BuildError

MAX_NUMBER: Final = 0xFFFFFFFF
"""Owners, times and device numbers as a ramdisk can hold them: eight hexadecimal digits."""
_MAX_DIGITS: Final = 20
_TIME: Final = re.compile(rb"-?[0-9]{0,20}(\.[0-9]*)?")


def octal(field: bytes, where: str) -> int:
    """Decode octal digits, or base-256 when the first bit is set."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise BuildError(f"{where} holds a negative number in a tar header.")
        return int.from_bytes(bytes([field[0] & 0x3F]) + field[1:])
    digits = text(field).strip(b" ")
    if digits.strip(b"01234567"):
        raise BuildError(f"{where} is not a tar archive, or is damaged: {field!r} is not a number.")
    return int(digits, 8) if digits else 0


def decimal(value: bytes, where: str) -> int:
    """Decode a number of a pax header."""
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        raise BuildError(f"{where} holds a pax header whose number is {value[:24]!r}.")
    return int(value)


def octal_time(field: bytes, where: str) -> int:
    """Decode a header's time; one before 1970 is 1970."""
    return 0 if field[0] & 0xC0 == 0xC0 else _held(octal(field, where))


def decimal_time(value: bytes, where: str) -> int:
    """Decode a time with an optional sign and fraction (pax, "mtime"), rounded down; not below 0."""
    if not _TIME.fullmatch(value):
        raise BuildError(f"{where} holds a pax header whose time is {value[:24]!r}.")
    return 0 if value.startswith(b"-") else _held(int(value.partition(b".")[0] or b"0"))


def text(field: bytes) -> bytes:
    """Return what stands before the first NUL."""
    return field.partition(b"\0")[0]


def _held(seconds: int) -> int:
    """Return a time that a ramdisk can hold: those it cannot are 1970, as Docker has times it cannot set."""
    return seconds if seconds <= MAX_NUMBER else 0
