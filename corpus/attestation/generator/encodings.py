"""CBOR and DER writers that write what they are told to, right or wrong (RFC 8949, X.690)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

SEQUENCE, INTEGER, BIT_STRING, OCTET_STRING, OBJECT, BOOLEAN = 0x30, 0x02, 0x03, 0x04, 0x06, 0x01
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18


@dataclass(frozen=True)
class Raw:
    """Bytes that stand for themselves where a CBOR value is written."""

    data: bytes


def head(major: int, argument: int, size: int | None = None) -> bytes:
    """Write a CBOR head in the shortest form, or with an argument of ``size`` bytes (1, 2, 4, 8)."""
    if size is None:
        if argument < 24:
            return bytes((major << 5 | argument,))
        size = next(size for size in (1, 2, 4, 8) if argument >> 8 * size == 0)
    return bytes((major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size],)) + argument.to_bytes(size, "big")


def cbor(value: Any) -> bytes:
    """Write a value: integers, strings, null, booleans, lists, definite maps, and Raw ones."""
    match value:
        case Raw(data):
            return data
        case None | bool():
            return {None: b"\xf6", False: b"\xf4", True: b"\xf5"}[value]
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            return head(5, len(value)) + pairs(value)
    raise TypeError(f"no CBOR form for {type(value).__name__}")


def pairs(value: dict[Any, Any]) -> bytes:
    """Write a map's pairs without its head."""
    return b"".join(cbor(key) + cbor(item) for key, item in value.items())


def chunked(major: int, data: bytes) -> Raw:
    """Write a byte string (2) or text (3) as an indefinite one of two chunks."""
    middle = len(data) // 2
    chunks = (data[:middle], data[middle:])
    body = b"".join(head(major, len(chunk)) + chunk for chunk in chunks)
    return Raw(bytes((major << 5 | 31,)) + body + b"\xff")


def der(tag: int, *contents: bytes) -> bytes:
    """Write a DER element."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(value: int) -> bytes:
    """Write a DER INTEGER."""
    return der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def utc_time(moment: datetime) -> bytes:
    """Write a UTCTime."""
    return der(UTC_TIME, f"{moment.astimezone(UTC):%y%m%d%H%M%SZ}".encode())


def elements(data: bytes) -> list[bytes]:
    """Split well-formed DER into the whole elements that fill it."""
    found = []
    while data:
        size, start = data[1], 2
        if size >= 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start], "big")
        found.append(data[: start + size])
        data = data[start + size :]
    return found


def content(element: bytes) -> bytes:
    """Return what is inside one well-formed DER element."""
    return element[2 + (element[1] & 0x7F if element[1] >= 0x80 else 0) :]
