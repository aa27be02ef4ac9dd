"""CBOR as a tree that keeps how each item was written, and writes anything it is told to.

RFC 8949, section 3. It reads only what is well-formed: genuine documents and requests.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
_BREAK = b"\xff"


@dataclass(slots=True)
class Item:
    """One data item: strings have content, containers have items (a map's in pairs, flat)."""

    major: int
    argument: int = 0
    """An integer's value, a tag's number; lengths follow from content and items."""
    content: bytes = b""
    items: list[Self] = field(default_factory=list)
    width: int = 0
    """At least so many bytes for the argument: 0, 1, 2, 4 or 8."""
    indefinite: bool = False
    claim: int = 0
    """How much more than the truth the length says."""
    additional: int | None = None
    """The initial byte's low five bits, in place of any argument: 28 to 30 are reserved."""
    raw: bytes | None = None
    """Bytes in place of the whole item."""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read one item; what follows it is ignored."""
        return cls._read(data, 0)[0]

    @classmethod
    def _read(cls, data: bytes, position: int) -> tuple[Self, int]:
        initial = data[position]
        major, low = initial >> 5, initial & 0x1F
        position += 1
        width = 1 << (low - 24) if 24 <= low <= 27 else 0
        argument = int.from_bytes(data[position : position + width], "big") if width else low
        position += width
        item = cls(major, argument, width=width, indefinite=low == 31)
        if major == SIMPLE:
            item.raw = bytes((initial,))
        elif major in {BYTES, TEXT} and not item.indefinite:
            item.content = data[position : position + argument]
            position += argument
        elif major >= BYTES:
            count = {ARRAY: argument, MAP: 2 * argument, TAG: 1}.get(major, 0)
            while data[position] != _BREAK[0] if item.indefinite else len(item.items) < count:
                inner, position = cls._read(data, position)
                item.items.append(inner)
            position += item.indefinite
        return item, position

    def write(self) -> bytes:
        """Return the bytes."""
        if self.raw is not None:
            return self.raw
        body = self.content + b"".join(item.write() for item in self.items)
        if self.additional is not None:
            return bytes((self.major << 5 | self.additional,)) + body
        if self.indefinite:
            chunks = _head(self.major, len(self.content), 0) if self.content else b""
            return bytes((self.major << 5 | 31,)) + chunks + body + _BREAK
        size = {BYTES: len(self.content), TEXT: len(self.content), ARRAY: len(self.items)}
        size[MAP] = len(self.items) // 2
        argument = max(0, size.get(self.major, self.argument) + self.claim)
        return _head(self.major, argument, self.width) + body

    def walk(self) -> Iterator[Self]:
        """Yield this item and all below it."""
        yield self
        for item in self.items:
            yield from item.walk()


def _head(major: int, argument: int, width: int) -> bytes:
    if argument < 24 and not width:
        return bytes((major << 5 | argument,))
    low = next(n for n in range(4) if argument < 1 << (8 << n) and width <= 1 << n)
    return bytes((major << 5 | 24 + low,)) + argument.to_bytes(1 << low, "big")
