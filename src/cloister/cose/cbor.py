"""The part of CBOR that Nitro's formats use, read strictly.

RFC 8949 without tags, floats, undefined, indefinite strings and indefinite arrays: integers, byte and text
strings, arrays, maps with integer or text keys (definite, or indefinite as AWS writes documents since 2025),
false, true and null. Refused: duplicate keys, trailing bytes, reserved lengths, lengths beyond the input,
excessive depth and, unless ``minimal=False``, heads longer than needed (every genuine document is minimal).
"""

from typing import Any, NoReturn

from cloister.errors import CloisterError

MAX_DEPTH = 16
_BREAK = 0xFF
_INDEFINITE_MAP = 0xBF
_SIMPLE: dict[int, bool | None] = {0xF4: False, 0xF5: True, 0xF6: None}


class CborError(CloisterError):
    """The bytes are not CBOR that we accept, or the value cannot be written as such."""


class IndefiniteMap(dict[Any, Any]):
    """A map whose encoding is indefinite (``BF ... FF``), which it remembers when read."""


def encode_cbor(value: Any, *, max_depth: int = MAX_DEPTH) -> bytes:
    """Return a value's shortest encoding, maps in their own order; raise CborError (RFC 8949, section 3)."""
    out = bytearray()
    _write(out, value, max_depth)
    return bytes(out)


def decode_cbor(data: bytes, *, max_depth: int = MAX_DEPTH, minimal: bool = True) -> Any:
    """Return the one value that the bytes hold; raise CborError (RFC 8949, section 3)."""
    reader = _Reader(bytes(data), minimal=minimal)
    value = reader.read(max_depth)
    if left := len(reader.data) - reader.position:
        raise CborError(
            f"{left} byte{' follows' if left == 1 else 's follow'} the CBOR value, which must stand alone"
        )
    return value


def _write_head(out: bytearray, major: int, argument: int) -> None:
    """Write an item's initial byte and argument in the shortest form (RFC 8949, section 3)."""
    major <<= 5
    if argument < 24:
        out.append(major | argument)
    elif argument < 0x100:
        out += bytes((major | 24, argument))
    elif argument < 0x10000:
        out.append(major | 25)
        out += argument.to_bytes(2, "big")
    elif argument < 0x1_0000_0000:
        out.append(major | 26)
        out += argument.to_bytes(4, "big")
    elif argument < 0x1_0000_0000_0000_0000:
        out.append(major | 27)
        out += argument.to_bytes(8, "big")
    else:
        raise CborError("an integer of more than 64 bits has no plain CBOR encoding")


def _write(out: bytearray, value: Any, depth: int) -> None:
    if isinstance(value, bytes):
        _write_head(out, 2, len(value))
        out += value
    elif isinstance(value, str):
        _write_text(out, value)
    elif value is None or value is True or value is False:
        out.append(0xF6 if value is None else 0xF5 if value else 0xF4)
    elif isinstance(value, int):
        _write_head(out, 0 if value >= 0 else 1, value if value >= 0 else -1 - value)
    elif depth <= 0:
        raise CborError("the value to encode is nested too deeply")
    elif isinstance(value, dict):
        _write_map(out, value, depth)
    elif isinstance(value, list | tuple):
        _write_head(out, 4, len(value))
        for item in value:
            _write(out, item, depth - 1)
    else:
        raise CborError(f"a value of type {type(value).__name__} has no CBOR encoding here")


def _write_text(out: bytearray, value: str) -> None:
    try:
        text = value.encode()
    except UnicodeEncodeError as error:
        raise CborError("a text to encode is not valid Unicode") from error
    _write_head(out, 3, len(text))
    out += text


def _write_map(out: bytearray, value: dict[Any, Any], depth: int) -> None:
    indefinite = isinstance(value, IndefiniteMap)
    if indefinite:
        out.append(_INDEFINITE_MAP)
    else:
        _write_head(out, 5, len(value))
    for key, item in value.items():
        if isinstance(key, bool) or not isinstance(key, int | str):
            raise CborError(f"a map key is an integer or a text, not {type(key).__name__}")
        _write(out, key, 0)
        _write(out, item, depth - 1)
    if indefinite:
        out.append(_BREAK)


class _Reader:
    """A position in the bytes; every length is checked against what is left before it is used."""

    __slots__ = ("data", "minimal", "position")

    def __init__(self, data: bytes, *, minimal: bool) -> None:
        self.data = data
        self.minimal = minimal
        self.position = 0

    def read(self, depth: int) -> Any:
        """Read one item of at most the given depth; what documents are full of takes the shortest way."""
        data, position = self.data, self.position + 1
        if position > len(data):
            raise CborError("the CBOR data ends in the middle of a value")
        initial = data[position - 1]
        self.position = position
        major, argument = initial >> 5, initial & 0x1F
        if argument >= 24 and major < 6:
            if initial == _INDEFINITE_MAP:
                return self._read_map(None, depth)
            argument = self._read_argument(argument)
            position = self.position
        if major == 2:
            self.position = end = position + argument
            return data[position:end] if end <= len(data) else self._refuse_length(argument, position)
        if major == 0:
            return argument
        if major == 3:
            return self._read_text(argument)
        if major == 1:
            return -1 - argument
        if major == 4:
            return self._read_array(argument, depth)
        return self._read_map(argument, depth) if major == 5 else self._read_simple(initial)

    def _read_simple(self, initial: int) -> bool | None:
        """Read false, true or null: the only items of major types 6 and 7 that we know."""
        if initial in _SIMPLE:
            return _SIMPLE[initial]
        what = (
            "a tag"
            if initial < 0xE0
            else "a misplaced break"
            if initial == _BREAK
            else "a float or simple value"
        )
        raise CborError(f"{what} (0x{initial:02x}) at byte {self.position - 1} is not allowed here")

    def _read_argument(self, additional: int) -> int:
        """Read an argument that stands in the bytes after its head."""
        data, start = self.data, self.position
        if additional > 27:
            raise CborError(
                f"the length at byte {start - 1} is indefinite or reserved, which is not allowed here"
            )
        size = 1 << (additional - 24)
        self.position = end = start + size
        if end > len(data):
            self._refuse_length(size, start)
        argument = data[start] if size == 1 else int.from_bytes(data[start:end], "big")
        if self.minimal and (argument < 24 if size == 1 else argument >> (size * 4) == 0):
            raise CborError(f"the number {argument} before byte {end} is not in its shortest form")
        return argument

    def _refuse_length(self, size: int, position: int) -> NoReturn:
        raise CborError(f"a length of {size} bytes at byte {position} goes beyond the end of the data")

    def _read_text(self, size: int) -> str:
        start = self.position
        self.position = end = start + size
        if end > len(self.data):
            self._refuse_length(size, start)
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError as error:
            raise CborError(f"the text before byte {self.position} is not valid UTF-8") from error

    def _check_room(self, items: int, depth: int) -> None:
        if depth <= 0:
            raise CborError(f"the value at byte {self.position} is nested too deeply")
        if items > len(self.data) - self.position:
            raise CborError(f"a count at byte {self.position} promises more items than there are bytes")

    def _read_array(self, count: int, depth: int) -> list[Any]:
        self._check_room(count, depth)
        return [self.read(depth - 1) for _ in range(count)]

    def _read_map(self, count: int | None, depth: int) -> dict[Any, Any]:
        """Read a map's pairs: as many as announced, or up to the break."""
        self._check_room(2 * (count or 0), depth)
        result: dict[Any, Any] = IndefiniteMap() if count is None else {}
        while count is None or len(result) < count:
            if count is None and self.data.startswith(b"\xff", self.position):
                self.position += 1
                break
            key = self.read(0)
            if type(key) is not int and type(key) is not str:  # True is an int to isinstance
                raise CborError(f"the map key before byte {self.position} is neither an integer nor a text")
            if key in result:
                raise CborError(f"the map key before byte {self.position} stands there twice")
            result[key] = self.read(depth - 1)
        return result
