"""Edits of a certificate's DER: forms that DER forbids, and forms that it allows but the profile does not."""

from collections.abc import Callable
from copy import deepcopy
from datetime import datetime, timedelta
from random import Random

from mutations.der_tree import CONSTRUCTED, Node

Edit = Callable[[Random, Node], str]
_OIDS = {
    "ecdsa-with-SHA256": "2a8648ce3d040302",
    "ecdsa-with-SHA384": "2a8648ce3d040303",
    "ecdsa-with-SHA512": "2a8648ce3d040304",
    "ecPublicKey": "2a8648ce3d0201",
    "P-256": "2a8648ce3d030107",
    "P-384": "2b81040022",
    "P-521": "2b81040023",
    "rsaEncryption": "2a864886f70d010101",
    "Ed25519": "2b6570",
    "basicConstraints": "551d13",
    "keyUsage": "551d0f",
    "subjectKeyIdentifier": "551d0e",
    "authorityKeyIdentifier": "551d23",
    "commonName": "550403",
    "padded": "80551d13",
}
_EXTENSIONS = {
    "unknown, critical": "300c06022a030101ff040304012a",
    "unknown": "300906022a030403040100",
    "default written out": "300c06022a030101000403040100",
    "nameConstraints": "300a0603551d1e0403300100",
    "extKeyUsage": "30130603551d25040c300a06082b06010505070302",
    "extKeyUsage, critical": "30160603551d250101ff040c300a06082b06010505070302",
    "policyConstraints": "300f0603551d240101ff04053003800100",
    "inhibitAnyPolicy": "300d0603551d360101ff0403020100",
    "basicConstraints CA": "300f0603551d130101ff040530030101ff",
    "basicConstraints CA, pathLen 0": "30120603551d130101ff040830060101ff020100",
    "basicConstraints CA, BER true": "300f0603551d130101ff04053003010101",
    "basicConstraints empty": "300c0603551d130101ff04023000",
    "keyUsage keyCertSign": "300e0603551d0f0101ff040403020204",
    "keyUsage digitalSignature": "300e0603551d0f0101ff040403020780",
    "keyUsage none": "300e0603551d0f0101ff040403020700",
}
_BASIC = (
    "3000",
    "30030101ff",
    "30060101ff020100",
    "30060101ff020101",
    "30060101ff020102",
    "30060101ff020103",
    "30060101ff0201ff",
    "30070101ff02020100",
    "3003020100",
    "3003010100",
    "3003010101",
    "30060101ff0a0100",
    "30060101ff02010000",
    "30080101ff0201000500",
)
_USAGE = (
    "03020780",
    "03020204",
    "03020186",
    "030206c0",
    "03020284",
    "0303070000",
    "0303000000",
    "03020786",
    "030307ff80",
    "030100",
    "03020880",
    "03020205",
    "23020204",
    "03020784",
)


def _any(rng: Random, root: Node, *tags: int) -> Node | None:
    found = [node for node, _ in root.walk() if not tags or node.tag in tags]
    return rng.choice(found) if found else None


def flip(rng: Random, root: Node) -> str:
    """Flip a bit of a primitive element's content."""
    node = _any(rng, root)
    if node is None or not node.content:
        return ""
    place = rng.randrange(8 * len(node.content))
    changed = bytearray(node.content)
    changed[place // 8] ^= 1 << place % 8
    node.content = bytes(changed)
    return f"bit {place} of an element with tag {node.tag:02x} flipped"


def retag(rng: Random, root: Node) -> str:
    """Give an element another tag."""
    node = _any(rng, root)
    if node is None:
        return ""
    before = node.tag
    node.tag = rng.choice(
        (before ^ CONSTRUCTED, before ^ 0x80, 0x31, 0x0C, 0x13, 0x14, 0x18, 0x05, 0x1F, 0x9F, 0xA4)
    )
    return f"tag {before:02x} made {node.tag:02x}"


def relength(rng: Random, root: Node) -> str:
    """Write a length too long, indefinite or wrong."""
    node = _any(rng, root)
    if node is None:
        return ""
    match rng.randrange(3):
        case 0:
            node.surplus = rng.choice((1, 2, 6, 100))
        case 1:
            node.claim = rng.choice((-1, 1, 2, 1000, 1 << 33))
        case _:
            node.indefinite = True
    return (
        f"length of tag {node.tag:02x}: surplus {node.surplus}, {node.claim:+d}, indefinite {node.indefinite}"
    )


def trail(rng: Random, root: Node) -> str:
    """Put bytes after an element's content, inside it."""
    node = _any(rng, root)
    if node is None:
        return ""
    node.trailer = rng.choice((b"\x00", b"\x05\x00", b"\x00\x00", b"\x30\x00", b"\xff", b"\x02\x01\x00"))
    return f"{node.trailer.hex()} inside tag {node.tag:02x}, at its end"


def remove(rng: Random, root: Node) -> str:
    """Take an element out of its parent."""
    node = _any(rng, root)
    if node is None or not node.children:
        return ""
    gone = node.children.pop(rng.randrange(len(node.children)))
    return f"tag {gone.tag:02x} taken out of tag {node.tag:02x}"


def duplicate(rng: Random, root: Node) -> str:
    """Write an element twice."""
    node = _any(rng, root)
    if node is None or not node.children:
        return ""
    place = rng.randrange(len(node.children))
    node.children.insert(place, deepcopy(node.children[place]))
    return f"tag {node.children[place].tag:02x} twice in tag {node.tag:02x}"


def exchange(rng: Random, root: Node) -> str:
    """Exchange two neighbours."""
    node = _any(rng, root)
    if node is None or len(node.children) < 2:
        return ""
    place = rng.randrange(len(node.children) - 1)
    children = node.children
    children[place], children[place + 1] = children[place + 1], children[place]
    return f"elements {place} and {place + 1} of tag {node.tag:02x} exchanged"


def reidentify(rng: Random, root: Node) -> str:
    """Put another object identifier."""
    node = _any(rng, root, 0x06)
    if node is None:
        return ""
    name = rng.choice(list(_OIDS))
    before, node.content = node.content, bytes.fromhex(_OIDS[name])
    return f"object identifier {before.hex()} made {name}"


def retime(rng: Random, root: Node) -> str:
    """Change a time: a second, a year, its form, or to a day that no calendar has."""
    node = _any(rng, root, 0x17, 0x18)
    if node is None:
        return ""
    before = node.content
    if rng.random() < 0.5:
        try:
            moment = datetime.strptime(before.decode(), "%y%m%d%H%M%SZ")  # noqa: DTZ007 -- only moved and written
        except ValueError:
            return ""
        step = rng.choice((1, 2, 60, 3600, 86400, 86400 * 366)) * rng.choice((-1, 1))
        moved = (moment + timedelta(seconds=step)).strftime("%y%m%d%H%M%SZ")
        node.content = moved.encode()
        return f"a time moved by {step} s"
    forms = {
        0x17: (
            before[:-1],
            before[:-3] + b"Z",
            before[:-1] + b"+0000",
            b"250230120000Z",
            b"251301000000Z",
            b"250203240000Z",
            b"250203236060Z",
            b"2502031200 0Z",
            before.lower(),
            b"+50203120000Z",
        ),
        0x18: (
            b"20" + before,
            b"19" + before,
            b"20250203120000.5Z",
            b"99991231235959Z",
            b"00000101000000Z",
            b"20250230120000Z",
            b"20" + before[:-1],
        ),
    }
    node.tag = rng.choice((0x17, 0x18))
    node.content = rng.choice(forms[node.tag])
    return f"time {before!r} made {node.content!r}, tag {node.tag:02x}"


def renumber(rng: Random, root: Node) -> str:
    """Change an integer, pad it, make it negative, or empty it."""
    node = _any(rng, root, 0x02, 0x01)
    if node is None:
        return ""
    before = node.content
    node.content = rng.choice(
        (
            b"",
            b"\x00",
            b"\x01",
            b"\x02",
            b"\x7f",
            b"\x80",
            b"\xff",
            b"\x00\x01",
            b"\x00" + before,
            before + b"\x00",
            b"\x01" * 20,
            b"\x7f" * 21,
            b"\x01" * 40,
        )
    )
    return f"integer {before.hex()} made {node.content.hex()}"


def extend(rng: Random, root: Node) -> str:
    """Add an extension."""
    lists = [node.children[0] for node, _ in root.walk() if node.tag == 0xA3 and node.children]
    if not lists:
        return ""
    name = rng.choice(list(_EXTENSIONS))
    place = rng.randrange(len(lists[0].children) + 1)
    lists[0].children[place:place] = Node.read(bytes.fromhex(_EXTENSIONS[name]))
    return f"extension {name} added"


def revalue(rng: Random, root: Node) -> str:
    """Give basicConstraints, keyUsage or a critical flag another value."""
    extensions = [
        (node, node.children[0].content)
        for node, _ in root.walk()
        if node.tag == 0x30 and len(node.children) in {2, 3} and node.children[0].content[:2] == b"\x55\x1d"
    ]
    if not extensions:
        return ""
    node, oid = rng.choice(extensions)
    values = {b"\x55\x1d\x13": _BASIC, b"\x55\x1d\x0f": _USAGE}.get(oid)
    if values and rng.random() < 0.7:
        value = rng.choice(values)
        node.children[-1] = Node(0x04, bytes.fromhex(value))
        return f"extension {oid.hex()} made {value}"
    if len(node.children) == 3:
        flag = rng.choice(("", "00", "01", "fe", "ffff"))
        node.children[1].content = bytes.fromhex(flag)
        if rng.random() < 0.5:
            del node.children[1]
        return f"critical flag of extension {oid.hex()} made {flag or 'absent'}"
    node.children.insert(1, Node(0x01, rng.choice((b"\xff", b"\x00", b"\x01"))))
    return f"extension {oid.hex()} given a critical flag"


def add_field(rng: Random, root: Node) -> str:
    """Add unique identifiers, or anything else, to the fields of the outermost sequence."""
    fields = root if len(root.children) > 4 else root.children[0]
    new = rng.choice(
        ("810100", "820100", "a1020500", "0500", "a3023000", "a003020102", "a003020101", "a003020100")
    )
    place = rng.randrange(len(fields.children) + 1)
    fields.children[place:place] = Node.read(bytes.fromhex(new))
    return f"field {new} added at {place}"


EDITS: tuple[Edit, ...] = (
    flip,
    flip,
    flip,
    retag,
    relength,
    trail,
    remove,
    duplicate,
    exchange,
    reidentify,
    retime,
    retime,
    renumber,
    extend,
    revalue,
    revalue,
    add_field,
)


def edit_der(rng: Random, root: Node) -> str:
    """Make one edit, and say which; an earlier edit may have left nothing to edit."""
    for _ in range(50):
        if description := rng.choice(EDITS)(rng, root):
            return description
    return "nothing"


def edited_certificate(rng: Random, der: bytes) -> tuple[str, bytes]:
    """Return the description and the bytes of a certificate with one edit in it."""
    (root,) = Node.read(der)
    description = edit_der(rng, root)
    return description, root.write()
