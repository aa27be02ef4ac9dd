"""Images to begin with: small ones of every kind that our builder makes, the same ones every time."""

import bz2
import gzip
import lzma
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, partial

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cloister.build.content import Literal
from cloister.build.cpio import CpioArchive
from cloister.build.linuxkit import rootfs_entries
from cloister.build.tree import Kind, Node
from cloister.eif import Image, sign_pcr0_elsewhere
from cloister.measure import measure
from simulators.crafted_images import (
    APP,
    BOOT,
    CMDLINE,
    KERNEL,
    RAMDISK,
    SIGNATURE,
    archive,
    bzimage,
    changed,
    directory,
    link,
    loose,
    metadata,
    newc,
    sealed,
    sections,
)
from simulators.signing_keys import HASHES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HEADER_SIZE = 548
MAX_SECTIONS = 32
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Parts = list[tuple[int, bytes]]
_CURVES = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
_KEYS = [ec.derive_private_key(0xC101573 + number, curve) for number, curve in enumerate(_CURVES)]


def parts_of(data: bytes) -> Parts:
    """Walk the sections as AWS's tools do, by their own headers; the last may be cut short."""
    found, offset = Parts(), HEADER_SIZE
    while offset + 12 <= len(data) and len(found) < MAX_SECTIONS:
        kind, _, size = struct.unpack_from(">HHQ", data, offset)
        payload = data[offset + 12 : offset + 12 + size]
        found.append((kind, payload))
        offset += 12 + len(payload)
    return found


def rebuilt(header: bytes, parts: Parts) -> bytes:
    """Return an image of these sections with right tables, and everything else of the header as it was."""
    offsets, sizes, body = [0] * MAX_SECTIONS, [0] * MAX_SECTIONS, b""
    parts = parts[:MAX_SECTIONS]
    for number, (kind, payload) in enumerate(parts):
        offsets[number], sizes[number] = HEADER_SIZE + len(body), len(payload)
        body += struct.pack(">HHQ", kind, 0, len(payload)) + payload
    tables = struct.pack(">H64Q", len(parts), *offsets, *sizes)
    return header[:26] + tables + header[26 + len(tables) :] + body


@cache
def certificate(number: int) -> bytes:
    """Return a certificate in PEM: of keys on P-256, P-384 and P-521, one expired, one nearly so."""
    key = _KEYS[number % 3]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "image signer")])
    start = NOW - timedelta(days=(1, 1, 1, 1000, 360)[number])
    end = start + timedelta(days=365)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, start, end)
    made = builder.sign(key, HASHES[key.curve.name], ecdsa_deterministic=True)
    return made.public_bytes(Encoding.PEM)


def signature_over(pcr0: bytes, number: int) -> bytes:
    """Return a genuine signature section, the same one every time (RFC 6979)."""
    key = _KEYS[number % 3]
    algorithm = ec.ECDSA(utils.Prehashed(HASHES[key.curve.name]), deterministic_signing=True)
    size = -(-key.key_size // 8)

    def sign(digest: bytes) -> bytes:
        r, s = utils.decode_dss_signature(key.sign(digest, algorithm))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    return sign_pcr0_elsewhere(pcr0, certificate(number), sign).to_bytes()


def signed_image(number: int) -> bytes:
    """Return a good image with a good signature."""
    pcr0 = measure(Image.from_buffer(loose(sections()))).pcr0
    return loose(sections(more=[(SIGNATURE, signature_over(pcr0, number))]))


def built_ramdisk() -> bytes:
    """Return a customer's ramdisk as the builder lays it out, with odd names, modes and nodes."""
    key = b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 40
    children = {
        b"bin": Node(Kind.DIRECTORY, children={b"su": Node(Kind.FILE, 0o4755, content=Literal(b"#!"))}),
        b"\xff\n\x1b": Node(Kind.FILE, 0o666, 1000, 2**32 - 1, Literal(key)),
        b"null": Node(Kind.CHARACTER, 0o600, major=1, minor=3),
        b"pipe": Node(Kind.FIFO, 0o600),
        b"up": Node(Kind.SYMLINK, 0o777, content=Literal(b"../../..")),
        b".git": Node(Kind.DIRECTORY, 0o777),
    }  # fmt: skip
    return b"".join(CpioArchive(rootfs_entries(Node(Kind.DIRECTORY, children=children))).chunks())


def seeds() -> Iterator[bytes]:
    """Yield inputs to begin with: what is put right in a byte, and an image."""
    debug = b"reboot=k console=ttyS0 console=hvc0 kgdboc=ttyS0 rdinit=/bin/sh nokaslr earlyprintk=serial"
    names = metadata(
        docker_info={"Id": "x", "Config": {"Cmd": ["\U0001f600", 1.5, None]}}, custom={"BuildTool": 1}
    )
    odd = archive(
        directory(b"rootfs"), directory(b"/etc"), newc(b"rootfs/../x", ino=9, nlink=2), link(b"l", b"/"),
        newc(b"rootfs/l", ino=9, nlink=2, body=b"AKIA" + b"Q" * 16, magic=b"070702"),
        newc(b"env", body=b"PASSWORD=x"),
        newc(b"rootfs/d", 0o60600, rdevmajor=8, mtime=2**32 - 1),
    )  # fmt: skip
    arm = bytes(16) + struct.pack("<Q", 4096) + bytes(32) + b"ARM\x64" + bytes(40)
    escapes = metadata(custom={"A": "a", "n": [[[1e300]]]}).replace(b'"a"', b'"\\u0041\\ud83d\\ude00\\n"')
    sealed_key = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + b"A" * 40 + b"ghp_" + b"a1B2" * 9
    images = [
        loose(sections()),
        loose(sections(meta=escapes, app=archive(newc(b".netrc", body=sealed_key)))),
        loose(sections(kernel=b"\x7fELF" + bytes(600))),
        loose(sections(kernel=bzimage(x211=b"\0") + b"more")),
        loose(sections(cmdline=debug)),
        loose(sections(meta=names)),
        loose(sections(app=odd)),
        loose(sections(app=built_ramdisk())),
        loose(sections(app=APP + bytes(8) + APP, more=[(RAMDISK, APP), (RAMDISK, b""), (RAMDISK, odd)])),
        loose([(KERNEL, bzimage(0)), (CMDLINE, b""), (RAMDISK, BOOT)]),
        loose([*sections()[:2], *sections()[3:], sections()[2]]),
        loose([(KERNEL, arm), *sections()[1:]], architecture="aarch64", memory=0),
        *map(signed_image, range(5)),
        changed(signed_image(1), 284 + 8 * 5, struct.pack(">Q", 7)),
        loose([*sections(cmdline=b"other"), (SIGNATURE, signature_over(bytes(48), 0))]),
        signed_image(2)[:-1] + b"\0",
    ]
    packers = (partial(gzip.compress, mtime=0), bz2.compress, lzma.compress, zstd.compress)
    images += [loose(sections(app=pack(APP), boot=BOOT + pack(odd))) for pack in packers]
    images += [loose(sections(app=start + bytes(20))) for start in (b"\x02\x21\x4c\x18", b"\x5d\0\0")]
    for number, image in enumerate(images):
        yield bytes([(0, 4, 7, 5, 15, 31, 47, 71)[number % 8]]) + image
        yield b"\7" + image
    yield b"\0" + sealed(images[0])[:HEADER_SIZE]
