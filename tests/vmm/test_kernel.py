"""Unpacking kernels on the host."""

import bz2
import gzip
import lzma
import struct

import lz4.block
import pytest

from cloister.vmm import has_pvh_entry, unpack_kernel


def make_elf(*, note: int = 18, size: int = 4096) -> bytes:
    """Make a 64-bit ELF with one Xen note of this type and a body that compresses."""
    notes = struct.pack("<III4sQ", 4, 8, note, b"Xen\0", 0x100_0000)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    return (header + program + notes).ljust(size, b"\x55")


def make_bzimage(payload: bytes, *, version: int = 0x20F) -> bytes:
    """Put a payload where the boot protocol says."""
    setup = bytearray(2 * 512)
    setup[0x1F1] = 1
    setup[0x1FE:0x206] = b"\x55\xaa\xeb\x6aHdrS"
    struct.pack_into("<H", setup, 0x206, version)
    struct.pack_into("<II", setup, 0x248, 0, len(payload))
    return bytes(setup) + payload


def legacy_lz4(raw: bytes) -> bytes:
    block = 8 << 20
    blocks = [lz4.block.compress(raw[i : i + block], store_size=False) for i in range(0, len(raw), block)]
    frame = b"".join(struct.pack("<I", len(b)) + b for b in blocks)
    return b"\x02\x21\x4c\x18" + frame + struct.pack("<I", len(raw))


ELF = make_elf()
BIG_ELF = make_elf(size=(8 << 20) + 12345)
SIZE = struct.pack("<I", len(ELF))


@pytest.mark.parametrize(
    ("payload", "elf"),
    [
        pytest.param(legacy_lz4(ELF), ELF, id="lz4"),
        pytest.param(legacy_lz4(BIG_ELF), BIG_ELF, id="lz4 of two blocks"),
        pytest.param(gzip.compress(ELF), ELF, id="gzip"),
        pytest.param(lzma.compress(ELF) + SIZE, ELF, id="xz"),
        pytest.param(lzma.compress(ELF, lzma.FORMAT_ALONE) + SIZE, ELF, id="lzma"),
        pytest.param(bz2.compress(ELF) + SIZE, ELF, id="bzip2"),
    ],
)
def test_packed_elf_comes_out_whole(payload: bytes, elf: bytes) -> None:
    """A bzImage gives back the very ELF that was packed into it."""
    assert unpack_kernel(make_bzimage(payload)) == elf


LZ4 = legacy_lz4(ELF)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(b"", id="empty"),
        pytest.param(ELF, id="an ELF already"),
        pytest.param(make_bzimage(LZ4, version=0x207), id="older than payload offsets"),
        pytest.param(make_bzimage(b"\x28\xb5\x2f\xfd" + bytes(60)), id="zstd"),
        pytest.param(make_bzimage(LZ4)[:-20], id="truncated"),
        pytest.param(make_bzimage(LZ4[:40] + b"\xff" * 40 + LZ4[80:]), id="damaged"),
        pytest.param(make_bzimage(LZ4[:-4] + b"\xff\xff\xff\xff"), id="claims 4 GiB"),
        pytest.param(make_bzimage(legacy_lz4(make_elf(note=17))), id="without PVH"),
        pytest.param(make_bzimage(gzip.compress(ELF)[:-12]), id="gzip cut short"),
        pytest.param(make_bzimage(b"\xfd7zXZ\x00" + bytes(60) + SIZE), id="no xz after all"),
        pytest.param(make_bzimage(b"\x5d\x00\x00" + b"\xff" * 60 + SIZE), id="no lzma after all"),
        pytest.param(make_bzimage(b"BZh9" + bytes(60) + SIZE), id="no bzip2 after all"),
    ],
)
def test_what_cannot_be_unpacked_boots_as_it_is(image: bytes) -> None:
    """Whatever is not certainly an ELF with a PVH entry is left alone, without an exception."""
    assert unpack_kernel(image) is None


def test_pvh_entry_is_found_by_its_note() -> None:
    """The Xen note of type 18 makes an ELF bootable through PVH, any other does not."""
    assert has_pvh_entry(ELF)
    assert not has_pvh_entry(make_elf(note=17))


def test_unpacking_is_bounded() -> None:
    """A payload that unpacks to more than it says is cut at what it says."""
    bomb = b"\x02\x21\x4c\x18" + legacy_lz4(bytes(32 << 20))[4:-4] + struct.pack("<I", 4096)
    assert unpack_kernel(make_bzimage(bomb)) is None


def test_a_kernel_that_claims_no_size_is_not_unpacked() -> None:
    """A packed kernel whose size is given as 0 is left as it is, however much would come out of it."""
    assert unpack_kernel(make_bzimage(gzip.compress(ELF) + bytes(4))) is None
