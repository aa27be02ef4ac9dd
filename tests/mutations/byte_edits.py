"""Edits of bytes as bytes: flips, insertions, cuts, repetitions, and splices with another document."""

from collections.abc import Callable
from random import Random

Edit = Callable[[Random, bytes, bytes], tuple[str, bytes]]
_TELLING = (0x00, 0x01, 0x1F, 0x20, 0x30, 0x40, 0x5F, 0x7F, 0x80, 0x9F, 0xA0, 0xBF, 0xC2, 0xD2, 0xF6, 0xFF)


def flip(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Flip one to three bits."""
    changed, places = (
        bytearray(data),
        [rng.randrange(8 * len(data)) for _ in range(rng.choice((1, 1, 1, 2, 3)))],
    )
    for place in places:
        changed[place // 8] ^= 1 << place % 8
    return f"bits {places} flipped", bytes(changed)


def put(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Set a byte to a telling value."""
    place, value = rng.randrange(len(data)), rng.choice(_TELLING)
    return f"byte {place} set to {value:02x}", data[:place] + bytes((value,)) + data[place + 1 :]


def insert(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Insert one to eight bytes."""
    place, new = rng.randrange(len(data) + 1), rng.randbytes(rng.choice((1, 1, 2, 4, 8)))
    return f"{new.hex()} inserted at byte {place}", data[:place] + new + data[place:]


def delete(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Cut out one to eight bytes."""
    place, size = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8))
    return f"{size} bytes cut out at byte {place}", data[:place] + data[place + size :]


def truncate(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Keep only the beginning."""
    size = rng.randrange(len(data))
    return f"truncated to {size} bytes", data[:size]


def append(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Add bytes, or the whole of another document, at the end."""
    new = rng.choice((b"\x00", b"\xff", b"\xf6", rng.randbytes(rng.randrange(1, 40)), other))
    return f"{len(new)} bytes appended", data + new


def repeat(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Write a range twice."""
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((1, 2, 16, 48, 300, 4000)))
    return f"bytes {start} to {end} repeated", data[:end] + data[start:]


def overwrite(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Copy a range over another place."""
    source, size = rng.randrange(len(data)), rng.choice((2, 8, 48, 96, 600))
    piece = data[source : source + size]
    place = rng.randrange(len(data))
    return (
        f"bytes from {source} copied over byte {place}, {len(piece)} of them",
        data[:place] + piece + data[place + len(piece) :],
    )


def splice(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Go on with another document, at the same place or anywhere."""
    here = rng.randrange(len(data))
    there = min(here, len(other)) if rng.random() < 0.5 else rng.randrange(len(other))
    return f"spliced at byte {here} with another from its byte {there}", data[:here] + other[there:]


def transplant(rng: Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """Put a range of another document in the same place."""
    here = rng.randrange(len(data))
    end = here + rng.choice((1, 4, 48, 96, 700, 2000))
    return f"bytes {here} to {end} from another document", data[:here] + other[here:end] + data[end:]


EDITS: tuple[Edit, ...] = (
    flip, flip, flip, put, insert, delete, truncate, append, repeat, overwrite, splice, transplant,
)  # fmt: skip
