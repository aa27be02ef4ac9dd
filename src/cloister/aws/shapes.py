"""Request shapes: what a member may be, checked and decoded by one table-driven routine.

Follows the constraint traits of AWS's service models; texts are those real KMS answers ("1 validation error
detected: ..."). Unknown members are ignored, as AWS does.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloister.aws.faults import Fault

MAX_REPORTED = 10
MAX_ECHO = 256
_HIDDEN = "***"
_LAST_SECOND = 253402300799
"""The end of the year 9999."""


@dataclass(frozen=True, slots=True)
class String:
    """Text, bounded in characters."""

    least: int = 0
    most: int | None = None
    pattern: str | None = None
    values: tuple[str, ...] = ()
    sensitive: bool = False
    """Whether a refused value must not be repeated."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes, base64 on the wire, bounded in bytes."""

    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number, within bounds where there are some."""

    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A moment, in seconds since 1970 on the wire; between the years 1970 and 9999."""


@dataclass(frozen=True, slots=True)
class StringMap:
    """Text to text."""


@dataclass(frozen=True, slots=True)
class List:
    """Values of one shape."""

    member: "Shape"
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Structure:
    """Named members, some required."""

    members: Mapping[str, "Shape"]
    required: tuple[str, ...] = ()


Shape = String | Blob | Integer | Boolean | Timestamp | StringMap | List | Structure


def decode_request(shape: Structure, value: dict[str, Any]) -> dict[str, Any]:
    """Return the members present, blobs decoded; raises Fault SerializationException, ValidationException."""
    problems: list[str] = []
    decoded: dict[str, Any] = _decode(shape, value, "", problems)
    if problems:
        noun = "error" if len(problems) == 1 else "errors"
        raise Fault(
            "ValidationException",
            f"{len(problems)} validation {noun} detected: {'; '.join(problems[:MAX_REPORTED])}",
        )
    return decoded


def _decode(shape: Shape, value: Any, path: str, problems: list[str]) -> Any:
    match shape:
        case Structure():
            return _decode_structure(shape, value, path, problems)
        case List():
            items = _typed(value, list, "List")
            _bound_length(shape, len(items), str(items), path, problems)
            if shape.most is not None and len(items) > shape.most:
                return []
            return [
                _decode(shape.member, item, f"{path}.{i}.member", problems) for i, item in enumerate(items, 1)
            ]
        case StringMap():
            return {key: _typed(item, str, "String") for key, item in _typed(value, dict, "Map").items()}
        case Boolean():
            return _typed(value, bool, "Boolean")
        case Timestamp():
            return _decode_timestamp(value)
        case Integer():
            return _decode_integer(shape, value, path, problems)
        case Blob():
            return _decode_blob(shape, value, path, problems)
        case String():
            return _decode_string(shape, value, path, problems)


def _decode_structure(shape: Structure, value: Any, path: str, problems: list[str]) -> dict[str, Any]:
    members = _typed(value, dict, "Structure")
    decoded = {}
    for name, member in shape.members.items():
        place = f"{path}.{_camel(name)}" if path else _camel(name)
        if members.get(name) is not None:
            decoded[name] = _decode(member, members[name], place, problems)
        elif name in shape.required:
            problems.append(f"Value null at '{place}' failed to satisfy constraint: Member must not be null")
    return decoded


def _decode_integer(shape: Integer, value: Any, path: str, problems: list[str]) -> int:
    number: int = _typed(value, int, "Integer")
    if isinstance(value, bool):
        raise _wrong_type(value, "Integer")
    if shape.least is not None and number < shape.least:
        _complain(problems, number, path, f"have value greater than or equal to {shape.least}")
    elif shape.most is not None and number > shape.most:
        _complain(problems, number, path, f"have value less than or equal to {shape.most}")
    return number


def _decode_timestamp(value: Any) -> datetime:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_type(value, "Timestamp")
    if not 0 <= value <= _LAST_SECOND:
        raise Fault("SerializationException", "Timestamp must be between the years 1970 and 9999.")
    return datetime.fromtimestamp(value, UTC)


def _decode_blob(shape: Blob, value: Any, path: str, problems: list[str]) -> bytes:
    text = _typed(value, str, "Blob")
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Fault("SerializationException", f"'{path}' is not valid base64.") from error
    size = len(octets)
    shown = f"java.nio.HeapByteBuffer[pos=0 lim={size} cap={size}]"  # AWS's words; the bytes stay unseen
    _bound_length(shape, size, shown, path, problems)
    return octets


def _decode_string(shape: String, value: Any, path: str, problems: list[str]) -> str:
    text: str = _typed(value, str, "String")
    shown = _HIDDEN if shape.sensitive else text
    _bound_length(shape, len(text), shown, path, problems)
    if shape.pattern is not None and not re.fullmatch(shape.pattern, text):
        _complain(problems, shown, path, f"satisfy regular expression pattern: {shape.pattern}")
    if shape.values and text not in shape.values:
        _complain(problems, shown, path, f"satisfy enum value set: [{', '.join(shape.values)}]")
    return text


def _bound_length(shape: String | Blob | List, size: int, shown: str, path: str, problems: list[str]) -> None:
    if size < shape.least:
        _complain(problems, shown, path, f"have length greater than or equal to {shape.least}")
    elif shape.most is not None and size > shape.most:
        _complain(problems, shown, path, f"have length less than or equal to {shape.most}")


def _complain(problems: list[str], value: object, path: str, constraint: str) -> None:
    shown = str(value)[:MAX_ECHO]
    problems.append(f"Value '{shown}' at '{path}' failed to satisfy constraint: Member must {constraint}")


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong_type(value, name)
    return value


def _wrong_type(value: Any, name: str) -> Fault:
    found = (
        "NUMBER"
        if isinstance(value, int | float) and not isinstance(value, bool)
        else type(value).__name__.upper()
    )
    found = {"STR": "STRING", "BOOL": "BOOLEAN", "DICT": "STRUCTURE", "NONETYPE": "NULL"}.get(found, found)
    return Fault("SerializationException", f"{found}_VALUE can not be converted to {name}")


def _camel(name: str) -> str:
    return name[0].lower() + name[1:]
