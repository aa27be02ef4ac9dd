"""Images and ramdisks made by hand, well-formed or not, as no writer of ours would make them."""

import stat
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from cloister.cpio import expand, is_compressed
from cloister.eif import BuildMetadata, EifHeader, ImageMetadata

KERNEL, CMDLINE, RAMDISK, SIGNATURE, METADATA = 1, 2, 3, 4, 5
QUIET = b"reboot=k panic=30"
MEMORY = 1 << 30


def newc(
    name: bytes,
    mode: int = stat.S_IFREG | 0o644,
    body: bytes = b"",
    *,
    magic: bytes = b"070701",
    **fields: Any,
) -> bytes:
    """Return one entry; ``fields`` are cpio(5)'s, by name."""
    values = {
        "ino": 0, "mode": mode, "uid": 0, "gid": 0, "nlink": 1, "mtime": 0, "filesize": len(body),
        "devmajor": 0, "devminor": 0, "rdevmajor": 0, "rdevminor": 0, "namesize": len(name) + 1, "check": 0,
    } | fields  # fmt: skip
    head = magic + b"".join(b"%08X" % value for value in values.values()) + name + b"\0"
    return padded(padded(head) + body)


def padded(data: bytes) -> bytes:
    """Fill up to a multiple of 4."""
    return data + bytes(-len(data) % 4)


TRAILER = newc(b"TRAILER!!!", 0)


def directory(name: bytes, mode: int = 0o755, **fields: Any) -> bytes:
    """Return a directory's entry."""
    return newc(name, stat.S_IFDIR | mode, **fields)


def link(name: bytes, target: bytes) -> bytes:
    """Return a symbolic link's entry."""
    return newc(name, stat.S_IFLNK | 0o777, target)


def archive(*entries: bytes) -> bytes:
    """Return a whole archive."""
    return b"".join(entries) + TRAILER


def expanded(ramdisk: memoryview) -> memoryview:
    """Return a ramdisk with everything in it unpacked in memory, a megabyte at most."""
    return memoryview(b"".join(expand(ramdisk, 1 << 20))) if is_compressed(ramdisk) else ramdisk


def bzimage(size: int = 64, **bytes_at: bytes) -> bytes:
    """Return a bzImage to a loader: one setup sector and ``size`` bytes; ``x1f1=...`` overwrites."""
    image = bytearray(1024 + size)
    parts = {"x1f1": b"\x01", "x1f4": struct.pack("<I", size // 16), "x1fe": b"\x55\xaa", "x202": b"HdrS"}
    for at, value in ({"x211": b"\x01"} | parts | bytes_at).items():
        offset = int(at[1:], 16)
        image[offset : offset + len(value)] = value
    return bytes(image)


def metadata(**fields: Any) -> bytes:
    """Return a metadata section."""
    build = BuildMetadata("1970-01-01T00:00:00+00:00", "cloister", "0")
    return ImageMetadata("crafted", "1.0", build, **fields).to_bytes()


BOOT = archive(directory(b"dev"), newc(b"init", stat.S_IFREG | 0o755, b"\x7fELF"))
APP = archive(
    newc(b"cmd", body=b"/a\n"), directory(b"rootfs"), newc(b"rootfs/a", stat.S_IFREG | 0o755, b"#!")
)


def sections(
    *,
    kernel: bytes = b"",
    cmdline: bytes = QUIET,
    meta: bytes = b"",
    boot: bytes = BOOT,
    app: bytes = APP,
    more: Sequence[tuple[int, bytes]] = (),
) -> list[tuple[int, bytes]]:
    """Return an image's sections in the usual order."""
    return [
        (KERNEL, kernel or bzimage()),
        (CMDLINE, cmdline),
        (METADATA, meta or metadata()),
        (RAMDISK, boot),
        (RAMDISK, app),
        *more,
    ]


def loose(
    parts: Sequence[tuple[int, bytes]],
    *,
    architecture: str = "x86_64",
    memory: int = MEMORY,
    tail: bytes = b"",
) -> bytes:
    """Write any sections in any order with right tables and checksum."""
    body, offsets, sizes = b"", list[int](), list[int]()
    for kind, payload in parts:
        offsets.append(548 + len(body))
        sizes.append(len(payload))
        body += struct.pack(">HHQ", kind, 0, len(payload)) + payload
    header = EifHeader(architecture, memory, 2, tuple(offsets), tuple(sizes))
    return sealed(header.to_bytes() + body + tail)


def sealed(image: bytes) -> bytes:
    """Put the right checksum on changed bytes."""
    crc32 = zlib.crc32(image[548:], zlib.crc32(image[:544]))
    return image[:544] + struct.pack(">I", crc32) + image[548:]


def changed(image: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite some bytes and put the right checksum on."""
    return sealed(image[:offset] + value + image[offset + len(value) :])
