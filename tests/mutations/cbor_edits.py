"""Edits of a CBOR tree: each leaves bytes that say something else, or the same thing in a forbidden form."""

from collections.abc import Callable
from copy import deepcopy
from random import Random

from mutations.cbor_tree import ARRAY, BYTES, MAP, NEGATIVE, TAG, TEXT, UNSIGNED, Item

Edit = Callable[[Random, Item], str]
_NAMES = (
    b"pcrs",
    b"nitrotpm_pcrs",
    b"nonce",
    b"digest",
    b"timestamp",
    b"cabundle",
    b"certificate",
    b"x",
    b"",
)
_RAW = {
    "null": "f6",
    "undefined": "f7",
    "false": "f4",
    "true": "f5",
    "zero": "00",
    "minus one": "20",
    "half float": "f93c00",
    "single float": "fa3f800000",
    "double float": "fb3ff0000000000000",
    "not a number": "f97e00",
    "simple value 0": "e0",
    "simple value in two bytes": "f8ff",
    "false in two bytes": "f814",
    "empty text": "60",
    "empty bytes": "40",
    "empty array": "80",
    "empty map": "a0",
    "empty indefinite map": "bfff",
    "indefinite array": "9fff",
    "indefinite bytes": "5fff",
    "indefinite text": "7fff",
    "a break": "ff",
    "nothing": "",
    "largest": "1bffffffffffffffff",
    "smallest": "3bffffffffffffffff",
    "huge bytes": "5bffffffffffffffff",
    "huge array": "9bffffffffffffffff",
    "huge map": "bb7fffffffffffffff",
    "bignum": "c249010000000000000000",
    "negative bignum": "c34100",
    "overlong UTF-8": "62c080",
    "surrogate": "63eda080",
    "a date": "c074323032352d30322d30335431323a30303a30305a",
}


def _any(rng: Random, root: Item, *majors: int) -> Item | None:
    found = [item for item in root.walk() if item.raw is None and (not majors or item.major in majors)]
    return rng.choice(found) if found else None


def widen(rng: Random, root: Item) -> str:
    """Write an argument in more bytes than needed."""
    item = _any(rng, root, UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP)
    if item is None:
        return ""
    item.width = rng.choice((1, 2, 4, 8))
    return f"an argument of major type {item.major} in {item.width} bytes"


def lie(rng: Random, root: Item) -> str:
    """Claim another length than the truth."""
    item = _any(rng, root, BYTES, TEXT, ARRAY, MAP)
    if item is None:
        return ""
    item.claim = rng.choice((-2, -1, 1, 2, 256, 1 << 16, 1 << 32, (1 << 62)))
    return f"a length of major type {item.major} says {item.claim:+d}"


def reserve(rng: Random, root: Item) -> str:
    """Use a reserved or indefinite length in the initial byte."""
    item = _any(rng, root)
    if item is None:
        return ""
    item.additional = rng.choice((28, 29, 30, 31))
    return f"additional information {item.additional} for major type {item.major}"


def make_indefinite(rng: Random, root: Item) -> str:
    """Exchange definite and indefinite lengths; strings come in chunks."""
    item = _any(rng, root, BYTES, TEXT, ARRAY, MAP)
    if item is None:
        return ""
    item.indefinite = not item.indefinite
    if item.major in {BYTES, TEXT} and item.content and rng.random() < 0.5:
        middle = rng.randrange(len(item.content) + 1)
        item.items = [Item(item.major, content=item.content[middle:])]
        item.content = item.content[:middle]
    return f"major type {item.major} made {'in' if item.indefinite else ''}definite"


def duplicate(rng: Random, root: Item) -> str:
    """Repeat an entry of a map or an array, exactly or with another value."""
    item = _any(rng, root, MAP, ARRAY)
    if item is None or len(item.items) < (2 if item.major == MAP else 1):
        return ""
    step = 2 if item.major == MAP else 1
    place = rng.randrange(len(item.items) // step) * step
    copy = deepcopy(item.items[place : place + step])
    if rng.random() < 0.5:
        copy[-1] = Item(BYTES, content=rng.randbytes(48))
    where = rng.choice((place, len(item.items)))
    item.items[where:where] = copy
    return f"entry {place // step} of major type {item.major} repeated"


def reorder(rng: Random, root: Item) -> str:
    """Shuffle or exchange the entries of a map or an array."""
    item = _any(rng, root, MAP, ARRAY)
    if item is None or len(item.items) < (2 if item.major == MAP else 1):
        return ""
    step = 2 if item.major == MAP else 1
    entries = [item.items[at : at + step] for at in range(0, len(item.items), step)]
    rng.shuffle(entries)
    item.items = [part for entry in entries for part in entry]
    return f"entries of major type {item.major} in another order"


def remove(rng: Random, root: Item) -> str:
    """Take an entry away, or half of one."""
    item = _any(rng, root, MAP, ARRAY)
    if item is None or len(item.items) < (2 if item.major == MAP else 1):
        return ""
    if item.major == MAP and rng.random() < 0.8:
        place = rng.randrange(len(item.items) // 2) * 2
        del item.items[place : place + 2]
    else:
        place = rng.randrange(len(item.items))
        del item.items[place]
    return f"entry at {place} of major type {item.major} removed"


def add(rng: Random, root: Item) -> str:
    """Add an entry under a new, a known or an impossible key."""
    item = _any(rng, root, MAP, ARRAY)
    if item is None:
        return ""
    value = Item(0, raw=bytes.fromhex(rng.choice(list(_RAW.values()))))
    if rng.random() < 0.5:
        value = Item(BYTES, content=rng.randbytes(rng.choice((0, 32, 48, 64, 1024))))
    keys = (
        Item(TEXT, content=rng.choice(_NAMES)),
        Item(UNSIGNED, rng.choice((0, 4, 15, 16, 23, 24, 31, 32, 255, 1 << 32))),
        Item(NEGATIVE, 0),
        Item(BYTES, content=b"nonce"),
        Item(0, raw=bytes.fromhex(rng.choice(("f5", "f6", "f90000", "80", "a0", "c100")))),
    )
    new = [rng.choice(keys), value] if item.major == MAP else [value]
    place = rng.choice((0, len(item.items)))
    item.items[place:place] = new
    return f"an entry {b''.join(part.write() for part in new)[:40].hex()} added to major type {item.major}"


def retype(rng: Random, root: Item) -> str:
    """Put a value of another type in a value's place."""
    item = _any(rng, root)
    if item is None:
        return ""
    name = rng.choice(list(_RAW))
    if item.major in {BYTES, TEXT} and rng.random() < 0.4:
        item.major = BYTES + TEXT - item.major
        return f"a string's type made {item.major}"
    if item.major in {UNSIGNED, NEGATIVE} and rng.random() < 0.4:
        item.major = NEGATIVE - item.major
        return f"the number {item.argument} made major type {item.major}"
    item.raw = bytes.fromhex(_RAW[name])
    return f"an item replaced by {name}"


def nest(rng: Random, root: Item) -> str:
    """Wrap an item in arrays or maps."""
    item = _any(rng, root)
    if item is None:
        return ""
    depth = rng.choice((1, 2, 3, 15, 16, 17, 400, 5000))
    opening = rng.choice((b"\x81", b"\xa1\x00", b"\xbf\x00", b"\x9f", b"\xd2"))
    item.raw = opening * depth + item.write()
    return f"an item wrapped {depth} times in {opening.hex()}"


def tag(rng: Random, root: Item) -> str:
    """Put a tag before an item."""
    item = _any(rng, root)
    if item is None:
        return ""
    number = rng.choice((0, 1, 2, 3, 16, 17, 18, 24, 61, 98, 55799, (1 << 64) - 1))
    item.raw = Item(TAG, number, items=[deepcopy(item)], width=rng.choice((0, 0, 1, 8))).write()
    return f"tag {number} before an item"


def renumber(rng: Random, root: Item) -> str:
    """Change a number."""
    item = _any(rng, root, UNSIGNED, NEGATIVE)
    if item is None:
        return ""
    item.argument = rng.choice(
        (0, 1, 23, 24, 31, 32, 255, 256, item.argument ^ 1, item.argument + 1, (1 << 63), (1 << 64) - 1)
    ) % (1 << 64)
    item.width = 0
    return f"a number made {item.argument}"


def edit_string(rng: Random, root: Item) -> str:
    """Change, shorten, lengthen or empty a string."""
    item = _any(rng, root, BYTES, TEXT)
    if item is None:
        return ""
    before = len(item.content)
    choices = [b"", bytes(before), item.content + b"\x00", b"\x00" + item.content, item.content[:-1]]
    choices += [item.content[1:], item.content[::-1], item.content.swapcase(), rng.randbytes(before)]
    choices += [bytes(size) for size in (32, 48, 64, 1024, 1025)]
    if item.content:
        place = rng.randrange(before)
        changed = bytes((item.content[place] ^ 1 << rng.randrange(8),))
        choices += [item.content[:place] + changed + item.content[place + 1 :]] * 5
    item.content = rng.choice(choices)
    return f"a string of {before} bytes changed to {item.content[:24].hex()} ({len(item.content)} bytes)"


def exchange(rng: Random, root: Item) -> str:
    """Let two items change places."""
    first, second = _any(rng, root), _any(rng, root)
    if first is None or second is None or first is second:
        return ""
    one, two = first.write(), second.write()
    first.raw, second.raw = two, one
    return f"items of major types {first.major} and {second.major} exchanged"


EDITS: tuple[Edit, ...] = (
    widen,
    lie,
    reserve,
    make_indefinite,
    duplicate,
    reorder,
    remove,
    add,
    retype,
    nest,
    tag,
    renumber,
    edit_string,
    edit_string,
    exchange,
)


def edit_cbor(rng: Random, root: Item) -> str:
    """Make one edit, and say which; an earlier edit may have left nothing to edit."""
    for _ in range(50):
        if description := rng.choice(EDITS)(rng, root):
            return description
    return "nothing"
