"""An index of a tar archive: what each member is and where its bytes lie; nothing is extracted.

Reads the formats layers come in: POSIX ustar and pax (IEEE Std 1003.1, pax), GNU's long names and base-256
numbers (tar(5)), sparse members of every version. Ours rather than ``tarfile``: the archive may be hostile,
so every header is bounded, names stay bytes, and two archive readers must not see two different trees
(decision 0023).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from cloister.build.content import BuildError, Region
from cloister.build.sparse import MAX_PIECES, SparseContent, old_map, pax_content
from cloister.build.tar_fields import MAX_NUMBER, decimal, decimal_time, octal, octal_time, text

_BLOCK: Final = 512
_MAX_EXTENSION: Final = 1 << 20
"""Bytes of one pax or GNU extension header."""
_WITH_BYTES: Final = (b"0", b"\0", b"7", b"S")
_REPEATING: Final = ("GNU.sparse.offset", "GNU.sparse.numbytes")
_READ: Final = frozenset((
    "path", "linkpath", "uid", "gid", "size", "mtime", *_REPEATING,
    *(f"GNU.sparse.{key}" for key in ("major", "minor", "name", "realsize", "size", "map", "numblocks")),
))  # fmt: skip
"""The pax records that matter: no others are kept, so that merging them costs nothing."""


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
    content: Region | SparseContent
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


@dataclass(slots=True)
class _Extensions:
    """What pax records and GNU's long names say of the next member."""

    records: dict[str, bytes] = field(default_factory=dict)
    pieces: list[tuple[str, bytes]] = field(default_factory=list)
    """The records of GNU.sparse version 0.0, which are the only ones to repeat."""
    awaited: bool = False
    """Whether a member has to follow."""

    def add(self, flag: bytes, payload: Region) -> None:
        """Read one extension header."""
        self.awaited = True
        if flag in (b"L", b"K"):
            key = "path" if flag == b"L" else "linkpath"
            self.records[key] = payload.read(_MAX_EXTENSION).rstrip(b"\0")
            return
        for key, value in _pax_records(payload):
            if key in _READ:
                self.records[key] = value
            if key in _REPEATING:
                self.pieces.append((key, value))
                if len(self.pieces) > 2 * MAX_PIECES:
                    raise BuildError(f"{payload.name} holds a sparse file in more than {MAX_PIECES} pieces.")


def read_tar(archive: Region) -> Iterator[TarEntry]:
    """Yield the members in archive order; raises BuildError for what is not plainly tar."""
    position, everywhere, here = 0, _Extensions(), _Extensions()
    while block := archive.read_at(position, _BLOCK):
        if len(block) < _BLOCK:
            raise BuildError(f"{archive.name} ends inside a tar header: it is truncated.")
        if block == bytes(_BLOCK):
            return
        header, start = _parse(block, archive.name), position + _BLOCK
        extension = header.flag in (b"x", b"g", b"L", b"K")
        records = everywhere.records | here.records
        if not extension:
            header = _extended(header, records, archive.name)
        sparse = old_map(archive, block, start) if header.flag == b"S" else None
        start = start if sparse is None else sparse[2]
        size = header.size if extension or header.flag in _WITH_BYTES else 0
        left = archive.size - start
        if size > left:
            raise BuildError(f"{archive.name} is truncated: a member needs {size} bytes, {left} are left.")
        position = start + -(-size // _BLOCK) * _BLOCK
        content: Region | SparseContent
        content = payload = archive.part(start, size)
        if extension:
            (everywhere if header.flag == b"g" else here).add(header.flag, payload)
            continue
        if sparse is not None:
            content = SparseContent.of(payload, *sparse[:2])
        elif any(key.startswith("GNU.sparse.") for key in records):
            content = pax_content(payload, records, here.pieces)
        yield _entry(header, content, archive.name)
        here = _Extensions()
    if here.awaited:
        raise BuildError(f"{archive.name} ends after an extension header: it is truncated.")


def _parse(block: bytes, where: str) -> _Header:
    stored = octal(block[148:156], where)
    blanked = block[:148] + b" " * 8 + block[156:]
    signed = sum(blanked) - 256 * sum(byte > 127 for byte in blanked)
    if stored not in (sum(blanked), signed):
        raise BuildError(f"{where} is not a tar archive, or is damaged: a header's checksum is wrong.")
    name, prefix = text(block[:100]), text(block[345:500])
    if block[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    devices = block[257:262] == b"ustar" and block[156:157] in (b"3", b"4")
    return _Header(
        flag=block[156:157],
        name=name,
        link=text(block[157:257]),
        mode=octal(block[100:108], where) & 0o7777,
        uid=octal(block[108:116], where),
        gid=octal(block[116:124], where),
        size=octal(block[124:136], where),
        major=octal(block[329:337], where) if devices else 0,
        minor=octal(block[337:345], where) if devices else 0,
        mtime=octal_time(block[136:148], where),
    )


def _extended(header: _Header, records: dict[str, bytes], where: str) -> _Header:
    """Apply pax records and GNU long names; an empty pax value means the header's own field."""
    numbers = {key: decimal(records[key], where) for key in ("uid", "gid", "size") if records.get(key)}
    return replace(
        header,
        name=records.get("GNU.sparse.name") or records.get("path") or header.name,
        link=records.get("linkpath") or header.link,
        uid=numbers.get("uid", header.uid),
        gid=numbers.get("gid", header.gid),
        size=numbers.get("size", header.size),
        mtime=decimal_time(records["mtime"], where) if records.get("mtime") else header.mtime,
    )


def _entry(header: _Header, content: Region | SparseContent, where: str) -> TarEntry:
    flag = b"0" if header.flag in _WITH_BYTES else header.flag
    if flag == b"0" and header.name.endswith(b"/"):
        flag = b"5"  # archives older than POSIX mark directories this way
    try:
        kind = Member(flag)
    except ValueError:
        raise BuildError(f"{where} holds a member of the unknown type {flag!r}.") from None
    if kind is not Member.FILE and isinstance(content, SparseContent):
        raise BuildError(f"{where} holds a sparse member that is no file.")
    if max(header.uid, header.gid, header.major, header.minor) > MAX_NUMBER:
        raise BuildError(f"{where} holds an owner or device number above {MAX_NUMBER}.")
    return TarEntry(
        header.name,
        kind,
        header.mode,
        header.uid,
        header.gid,
        content,
        header.link,
        header.major,
        header.minor,
        header.mtime,
    )


def _pax_records(payload: Region) -> Iterator[tuple[str, bytes]]:
    """Decode ``length key=value`` lines, where the length counts the whole line."""
    data, position = payload.read(_MAX_EXTENSION), 0
    while position < len(data):
        digits, space, _ = data[position : position + 21].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        line = data[position + len(digits) + 1 : position + length]
        position += length
        key, equals, value = line.partition(b"=")
        if not line.endswith(b"\n") or not equals:
            raise BuildError(f"{payload.name} holds a malformed pax header.")
        yield key.decode("utf-8", "backslashreplace"), value[:-1]
