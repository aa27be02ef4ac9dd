"""Comparing images: the first file and attribute that differ, and which registers change because of them."""

import stat
import struct
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cloister.audit import compare
from cloister.audit.sameness import first_difference
from cloister.eif import Image, sign_pcr0
from cloister.measure import measure
from simulators.crafted_images import (
    APP,
    BOOT,
    METADATA,
    QUIET,
    SIGNATURE,
    archive,
    bzimage,
    directory,
    link,
    loose,
    metadata,
    newc,
    sections,
)
from simulators.signing_keys import self_signed

DIRS = directory(b"rootfs")


def image(**parts: Any) -> Image:
    return Image.from_buffer(loose(sections(**parts)))


def app(*entries: bytes) -> Image:
    return image(app=archive(DIRS, *entries))


def told(first: Image, second: Image, limit: int = 20) -> list[tuple[str, str, Any, Any]]:
    """Return the differences, having checked that exactly the registers they name differ."""
    differences = list(compare(first, second, limit=limit))
    registers = [measure(one).registers() for one in (first, second)]
    different = {index for index in (0, 1, 2) if registers[0][index] != registers[1][index]}
    assert {index for one in differences for index in one.registers} == different
    return [(one.where, one.attribute, one.first, one.second) for one in differences]


FILE = stat.S_IFREG | 0o644
A, B = newc(b"rootfs/a", body=b"a"), newc(b"rootfs/b", body=b"b")
CASES: list[tuple[Image, Image, list[tuple[str, str, Any, Any]]]] = [
    (image(), image(), []),
    (image(), image(kernel=bzimage(x300=b"\1")), [("kernel", "byte 768", "00" * 8, "01" + "00" * 7)]),
    (image(), image(cmdline=b"quiet"), [("command line", "text", QUIET.decode(), "quiet")]),
    (
        image(boot=BOOT),
        image(boot=archive(directory(b"dev"), newc(b"init", stat.S_IFREG | 0o700, b"\x7fELF"))),
        [("ramdisk 1: init", "mode", "100755", "100700")],
    ),
    (app(A, B), app(A), [("ramdisk 2: rootfs/b", "presence", "there", None)]),
    (app(B), app(A, B), [("ramdisk 2: rootfs/a", "presence", None, "there")]),
    (app(A, B), app(B, A), [("ramdisk 2", "order", "rootfs/a", "rootfs/b")]),
    (
        app(A),
        app(newc(b"rootfs/a", body=b"b")),
        [("ramdisk 2: rootfs/a", "content, byte 0", "61", "62")],
    ),
    (
        app(A),
        app(newc(b"rootfs/a", body=b"ab")),
        [("ramdisk 2: rootfs/a", "size", 1, 2), ("ramdisk 2: rootfs/a", "content, byte 1", "", "62")],
    ),
    (
        app(link(b"rootfs/l", b"a")),
        app(link(b"rootfs/l", b"b")),
        [("ramdisk 2: rootfs/l", "link target", "a", "b")],
    ),
    (
        app(newc(b"f", FILE, uid=1, mtime=5, ino=7)),
        app(newc(b"f", FILE, gid=1, mtime=6, ino=8)),
        [
            ("ramdisk 2: f", "owner", "1:0", "0:1"),
            ("ramdisk 2: f", "mtime", 5, 6),
            ("ramdisk 2: f", "inode", 7, 8),
        ],
    ),
    (
        app(newc(b"\xff\\", FILE)),
        app(newc(b"\xff\\", FILE | 0o111)),
        [("ramdisk 2: \\xff\\\\", "mode", "100644", "100755")],
    ),
    (image(), image(app=APP + bytes(4)), [
        ("ramdisk 2", "size", len(APP), len(APP) + 4), ("ramdisk 2", f"byte {len(APP)}", "", "00" * 4),
    ]),
    (image(), image(meta=metadata(kit_digest="a")), [("metadata", "KitDigest", None, "a")]),
    (image(), image(more=[(3, APP)]), [("ramdisks", "count", 2, 3)]),
    (image(app=b"not cpio"), image(app=b"not cpiO"), [
        ("ramdisk 2", "byte 7", "6f", "4f"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "expected"), CASES)
def test_difference_is_found(first: Image, second: Image, expected: list[tuple[str, str, Any, Any]]) -> None:
    """What differs is told, down to the attribute, with the registers that change."""
    assert told(first, second) == expected


def test_what_is_not_measured_changes_no_register() -> None:
    """The header's fields and the sections' order are told, and name no register."""
    first = image()
    moved = sections()
    moved.append(moved.pop(2))
    second = Image.from_buffer(loose(moved, memory=1))
    assert [one.kind for one in second.sections][-1] == METADATA
    assert [what[:2] for what in told(first, second)] == [("header", "default memory"), ("sections", "order")]


def test_what_can_no_longer_be_read_is_told() -> None:
    """Of a ramdisk that is damaged on one side: why, and the byte."""
    damaged = bytearray(APP)
    damaged[APP.rindex(b"070701")] ^= 1
    found = told(image(), image(app=bytes(damaged)))
    assert [what[:2] for what in found if what[1] == "format"] == [("ramdisk 2", "format")]
    assert any(what[1].startswith("byte ") for what in found)


def test_signatures_are_compared() -> None:
    """A signature is not measured but its certificate is, in PCR8."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    pems = [self_signed(key).public_bytes(Encoding.PEM) for key in keys]
    pcr0 = measure(image()).pcr0
    one, again, other = (
        image(more=[(SIGNATURE, sign_pcr0(register, pems[n], keys[n]).to_bytes())])
        for register, n in ((pcr0, 0), (bytes(48), 0), (pcr0, 1))
    )
    assert [(found.registers, found.where, found.attribute) for found in compare(image(), one)] == [
        ((8,), "signature", "certificate")
    ]
    assert [found.registers for found in compare(one, other)] == [(8,)]
    assert {found.registers for found in compare(one, again)} == {()}


@given(st.data())
def test_no_measured_byte_changes_unnoticed(data: st.DataObject) -> None:
    """Whatever is changed in whatever is measured, a register and a measured difference say so."""
    parts = {"kernel": bzimage(), "boot": BOOT, "app": archive(DIRS, A, B)}
    name = data.draw(st.sampled_from(sorted(parts)))
    changed = bytearray(parts[name])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    assert told(image(**parts), image(**parts | {name: bytes(changed)}))


def test_number_of_names_is_bounded() -> None:
    """A thousand changed files are as many as were asked for."""
    one, other = [
        app(*[newc(b"f%d" % n, FILE, struct.pack("<I", n + side)) for n in range(1000)]) for side in (0, 1)
    ]
    assert len(told(one, other, limit=5)) == 5


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 1))
def test_first_difference_is_the_first(first: bytes, second: bytes, same_start: int) -> None:
    """It agrees with looking at every byte."""
    second = first[:30] + second if same_start else second
    slow = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if slow is None and len(first) != len(second):
        slow = min(len(first), len(second))
    assert first_difference(memoryview(first), memoryview(second)) == slow
