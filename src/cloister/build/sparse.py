"""Sparse members of a tar archive: files whose long runs of zeros are not stored.

Formats: GNU tar's manual, "Storing Sparse Files": the old GNU header, and pax versions 0.0, 0.1 and 1.0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from cloister.build.content import CHUNK, BuildError, Region
from cloister.build.tar_fields import decimal, octal

MAX_PIECES: Final = 1 << 16
"""Stored pieces of one file: a map of them takes up to a few megabytes."""
_BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class SparseContent:
    """A file's bytes: the stored pieces, one after another in a region, and zeros between them."""

    stored: Region
    pieces: Sequence[tuple[int, int]]
    """Offset in the file and length of each, in order."""
    size: int

    @classmethod
    def of(cls, stored: Region, pieces: Sequence[tuple[int, int]], size: int) -> "SparseContent":
        """Check the map; raises BuildError."""
        ends = [(offset, offset + length) for offset, length in pieces]
        ordered = all(before[1] <= after[0] for before, after in pairwise(ends))
        total = sum(length for _, length in pieces)
        if not ordered or (ends and ends[-1][1] > size) or total != stored.size:
            raise BuildError(f"{stored.name} holds a sparse file of {size} bytes whose map does not fit it.")
        return cls(stored, tuple(pieces), size)

    def chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes, at most 1 MiB at a time."""
        position = taken = 0
        for offset, length in self.pieces:
            yield from _zeros(offset - position)
            yield from self.stored.part(taken, length).chunks()
            position, taken = offset + length, taken + length
        yield from _zeros(self.size - position)


def old_map(archive: Region, header: bytes, position: int) -> tuple[list[tuple[int, int]], int, int]:
    """Read an old GNU header and the blocks after it: the map, the file's size, and where its bytes start."""
    pieces, more = _old_pieces(header[386:482], archive.name), header[482]
    size = octal(header[483:495], archive.name)
    while more:
        block = archive.read_at(position, _BLOCK)
        if len(block) < _BLOCK or len(pieces) > MAX_PIECES:
            raise BuildError(f"{archive.name} holds a sparse file with an endless map.")
        pieces += _old_pieces(block[:504], archive.name)
        position, more = position + _BLOCK, block[504]
    return pieces, size, position


def pax_content(
    payload: Region, records: dict[str, bytes], listed: Sequence[tuple[str, bytes]]
) -> SparseContent:
    """Return the file that pax records describe; ``listed`` are those of version 0.0, which repeat."""
    where = payload.name
    if records.get("GNU.sparse.major") is not None:
        if (records["GNU.sparse.major"], records.get("GNU.sparse.minor")) != (b"1", b"0"):
            raise BuildError(f"{where} holds a sparse file of a version other than 0.0, 0.1 and 1.0.")
        pieces, start = _map_before(payload)
        size = decimal(records.get("GNU.sparse.realsize", b""), where)
        return SparseContent.of(payload.part(start, payload.size - start), pieces, size)
    if "GNU.sparse.map" in records:
        words = records["GNU.sparse.map"].split(b",") if records["GNU.sparse.map"] else []
    else:
        words = [value for _, value in listed]
        if [key for key, _ in listed] != ["GNU.sparse.offset", "GNU.sparse.numbytes"] * (len(words) // 2):
            raise BuildError(f"{where} holds a sparse file whose map is malformed.")
    size = decimal(records.get("GNU.sparse.size") or records.get("GNU.sparse.realsize", b""), where)
    return SparseContent.of(payload, _paired([decimal(word, where) for word in words], where), size)


def _map_before(payload: Region) -> tuple[list[tuple[int, int]], int]:
    """Read version 1.0's map: decimal numbers, a line each, before the bytes, padded to a block."""
    position, lines = 0, list[bytes]()
    rest, expected = b"", 1
    while len(lines) < expected:
        block = payload.read_at(position, _BLOCK)
        position += len(block)
        *whole, rest = (rest + block).split(b"\n")
        if len(block) < _BLOCK or len(rest) > _BLOCK:
            raise BuildError(f"{payload.name} holds a sparse file whose map is cut short.")
        if not lines and whole:
            expected = 1 + 2 * min(decimal(whole[0], payload.name), MAX_PIECES + 1)
        lines += whole
    return _paired([decimal(line, payload.name) for line in lines[1:expected]], payload.name), position


def _paired(numbers: Sequence[int], where: str) -> list[tuple[int, int]]:
    if len(numbers) % 2 or len(numbers) > 2 * MAX_PIECES:
        raise BuildError(f"{where} holds a sparse file whose map has {len(numbers)} numbers.")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _old_pieces(field: bytes, where: str) -> list[tuple[int, int]]:
    """Read entries of twice twelve octal digits, up to the first empty one."""
    pieces = list[tuple[int, int]]()
    for start in range(0, len(field), 24):
        entry = field[start : start + 24]
        if not entry[0]:
            break
        pieces.append((octal(entry[:12], where), octal(entry[12:], where)))
    return pieces


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, CHUNK))
        count -= CHUNK
