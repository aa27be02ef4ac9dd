"""An index of a tar archive: what each member is and where its bytes lie; nothing is extracted.

Reads the formats layers come in: POSIX ustar and pax (IEEE Std 1003.1, pax), GNU's long names and base-256
numbers (tar(5)). Refuses sparse members for now. Ours rather than ``tarfile``: the archive may be hostile,
so every header is bounded, names stay bytes, and two archive readers must not see two different trees
(decision 0023).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from cloister.build.content import BuildError, Region

_BLOCK: Final = 512
_MAX_EXTENSION: Final = 1 << 20
"""Bytes of one pax or GNU extension header."""
_MAX_NUMBER: Final = 0xFFFFFFFF
"""Owners, times and device numbers as a ramdisk can hold them: eight hexadecimal digits."""
_TIME: Final = re.compile(rb"-?[0-9]{0,20}(\.[0-9]*)?")


class Member(Enum):
    """The type flags this reader knows (ustar's; 7, contiguous, is a file)."""

    FILE = b"0"
    HARDLINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One member; extended attributes are left out, since a ramdisk keeps none."""

    name: bytes
    kind: Member
    mode: int
    uid: int
    gid: int
    content: Region
    link: bytes
    major: int
    minor: int
    mtime: int


@dataclass(frozen=True, slots=True)
class _Header:
    """A member's own 512 bytes, before extensions are applied."""

    flag: bytes
    name: bytes
    link: bytes
    mode: int
    uid: int
    gid: int
    size: int
    major: int
    minor: int
    mtime: int


def read_tar(archive: Region) -> Iterator[TarEntry]:
    """Yield the members in archive order; raises BuildError for what is not plainly tar."""
    position, everywhere, here = 0, dict[str, bytes](), dict[str, bytes]()
    while block := archive.read_at(position, _BLOCK):
        if len(block) < _BLOCK:
            raise BuildError(f"{archive.name} ends inside a tar header: it is truncated.")
        if block == bytes(_BLOCK):
            return
        header = _parse(block, archive.name)
        extension = header.flag in (b"x", b"g", b"L", b"K")
        if not extension:
            header = _extended(header, everywhere | here, archive.name)
        size = header.size if extension or header.flag in (b"0", b"\0", b"7") else 0
        start = position + _BLOCK
        left = archive.size - start
        if size > left:
            raise BuildError(f"{archive.name} is truncated: a member needs {size} bytes, {left} are left.")
        position = start + -(-size // _BLOCK) * _BLOCK
        payload = archive.part(start, size)
        if not extension:
            yield _entry(header, payload)
            here = {}
        elif header.flag == b"g":
            everywhere |= _pax_records(payload)
        elif header.flag == b"x":
            here |= _pax_records(payload)
        else:
            here["path" if header.flag == b"L" else "linkpath"] = payload.read(_MAX_EXTENSION).rstrip(b"\0")
    if here:
        raise BuildError(f"{archive.name} ends after an extension header: it is truncated.")


def _parse(block: bytes, where: str) -> _Header:
    stored = _number(block[148:156], where)
    blanked = block[:148] + b" " * 8 + block[156:]
    signed = sum(blanked) - 256 * sum(byte > 127 for byte in blanked)
    if stored not in (sum(blanked), signed):
        raise BuildError(f"{where} is not a tar archive, or is damaged: a header's checksum is wrong.")
    name, prefix = _text(block[:100]), _text(block[345:500])
    if block[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    devices = block[257:262] == b"ustar" and block[156:157] in (b"3", b"4")
    return _Header(
        flag=block[156:157],
        name=name,
        link=_text(block[157:257]),
        mode=_number(block[100:108], where) & 0o7777,
        uid=_number(block[108:116], where),
        gid=_number(block[116:124], where),
        size=_number(block[124:136], where),
        major=_number(block[329:337], where) if devices else 0,
        minor=_number(block[337:345], where) if devices else 0,
        mtime=0 if block[136] & 0xC0 == 0xC0 else _held(_number(block[136:148], where)),
    )


def _extended(header: _Header, records: dict[str, bytes], where: str) -> _Header:
    """Apply pax records and GNU long names; an empty pax value means the header's own field."""
    if header.flag == b"S" or any(key.startswith("GNU.sparse.") for key in records):
        raise BuildError(
            f"{where} holds a sparse file, which is not supported yet: archive it without --sparse."
        )
    numbers = {key: _decimal(records[key], where) for key in ("uid", "gid", "size") if records.get(key)}
    return replace(
        header,
        name=records.get("path") or header.name,
        link=records.get("linkpath") or header.link,
        uid=numbers.get("uid", header.uid),
        gid=numbers.get("gid", header.gid),
        size=numbers.get("size", header.size),
        mtime=_seconds(records["mtime"], where) if records.get("mtime") else header.mtime,
    )


def _entry(header: _Header, payload: Region) -> TarEntry:
    flag = b"0" if header.flag in (b"\0", b"7") else header.flag
    if flag == b"0" and header.name.endswith(b"/"):
        flag = b"5"  # archives older than POSIX mark directories this way
    try:
        kind = Member(flag)
    except ValueError:
        raise BuildError(f"{payload.name} holds a member of the unknown type {flag!r}.") from None
    if max(header.uid, header.gid, header.major, header.minor) > _MAX_NUMBER:
        raise BuildError(f"{payload.name} holds an owner or device number above {_MAX_NUMBER}.")
    return TarEntry(
        header.name,
        kind,
        header.mode,
        header.uid,
        header.gid,
        payload,
        header.link,
        header.major,
        header.minor,
        header.mtime,
    )


def _pax_records(payload: Region) -> dict[str, bytes]:
    """Decode ``length key=value`` lines, where the length counts the whole line."""
    data, records = payload.read(_MAX_EXTENSION), dict[str, bytes]()
    while data:
        digits, space, _ = data[:21].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        line, data = data[len(digits) + 1 : length], data[length:]
        key, equals, value = line.partition(b"=")
        if not line.endswith(b"\n") or not equals:
            raise BuildError(f"{payload.name} holds a malformed pax header.")
        records[key.decode("utf-8", "backslashreplace")] = value[:-1]
    return records


def _number(field: bytes, where: str) -> int:
    """Decode octal digits, or base-256 when the first bit is set."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise BuildError(f"{where} holds a negative number in a tar header.")
        return int.from_bytes(bytes([field[0] & 0x3F]) + field[1:])
    digits = _text(field).strip(b" ")
    if digits.strip(b"01234567"):
        raise BuildError(f"{where} is not a tar archive, or is damaged: {field!r} is not a number.")
    return int(digits, 8) if digits else 0


def _decimal(value: bytes, where: str) -> int:
    if not value.isdigit() or len(value) > 20:
        raise BuildError(f"{where} holds a pax header whose number is {value[:24]!r}.")
    return int(value)


def _seconds(value: bytes, where: str) -> int:
    """Decode a time with an optional sign and fraction (POSIX pax, "mtime"), rounded down."""
    if not _TIME.fullmatch(value):
        raise BuildError(f"{where} holds a pax header whose time is {value[:24]!r}.")
    return 0 if value.startswith(b"-") else _held(int(value.partition(b".")[0] or b"0"))


def _held(seconds: int) -> int:
    """Return a time that a ramdisk can hold: those it cannot are 1970, as Docker has times it cannot set."""
    return seconds if seconds <= _MAX_NUMBER else 0


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
