"""Unpacks a bzImage to the ELF kernel inside it, so that the guest need not do it under emulation.

What is measured stays the section as it stands. The boot protocol is Linux's Documentation/arch/x86/boot.rst
(2.08 and later); the ELF is started through PVH, so it must carry XEN_ELFNOTE_PHYS32_ENTRY. Leaves out zstd
and LZO, which Python 3.11 lacks: such kernels are booted as they are and unpack themselves.
"""

import struct
import zlib
from typing import Final

MAX_KERNEL: Final = 256 << 20
"""Bytes an unpacked kernel may have; larger ones are left packed."""
SETUP_HEADER: Final = 0x1F1
XEN_ELFNOTE_PHYS32_ENTRY: Final = 18
_LZ4_LEGACY: Final = b"\x02\x21\x4c\x18"
_LZMA: Final = b"\x5d\x00\x00"
"""The properties that every compressor writes first, and the low bytes of any dictionary size."""
_LZ4_LEGACY_BLOCK: Final = 8 << 20
"""Every block of the legacy frame but the last unpacks to this many bytes."""
_BOOT_FLAG: Final = b"\x55\xaa"
_PT_NOTE: Final = 4


def unpack_kernel(bzimage: bytes | memoryview) -> bytes | None:
    """Return the ELF kernel in a bzImage, or None where it has to boot as it is."""
    payload = _payload(memoryview(bzimage))
    if payload is None:
        return None
    try:
        elf = _decompress(payload)
    except (ValueError, zlib.error):
        return None
    return elf if elf is not None and has_pvh_entry(elf) else None


def _payload(image: memoryview) -> memoryview | None:
    if len(image) < 0x250 or bytes(image[0x1FE:0x200]) != _BOOT_FLAG or bytes(image[0x202:0x206]) != b"HdrS":
        return None
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:  # payload_offset came with 2.08
        return None
    sectors = image[SETUP_HEADER] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    if length < 8 or start + length > len(image):
        return None
    return image[start : start + length]


def _decompress(payload: memoryview) -> bytes | None:
    # the last four bytes are the unpacked size; gzip has it by its own format
    (size,) = struct.unpack("<I", payload[-4:])
    if not 0 < size <= MAX_KERNEL:  # to zlib a size of 0 means any
        return None
    magic = bytes(payload[:6])
    if magic.startswith(_LZ4_LEGACY):
        return _unpack_lz4(payload[4:-4], size)
    if magic.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(payload, size)
    if magic == b"\xfd7zXZ\x00" or magic.startswith(_LZMA):
        return _unpack_lzma(payload[:-4], size)
    if magic.startswith(b"BZh"):
        return _unpack_bzip2(payload[:-4], size)
    return None


def _unpack_bzip2(stream: memoryview, size: int) -> bytes:
    import bz2  # noqa: PLC0415 -- loaded only when such a kernel is met

    try:
        return bz2.BZ2Decompressor().decompress(stream, size)
    except OSError as error:
        raise ValueError(str(error)) from None


def _unpack_lzma(stream: memoryview, size: int) -> bytes:
    import lzma  # noqa: PLC0415 -- loaded only when such a kernel is met

    try:
        return lzma.LZMADecompressor(memlimit=MAX_KERNEL).decompress(stream, size)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from None


def _unpack_lz4(frame: memoryview, size: int) -> bytes:
    import lz4.block  # noqa: PLC0415 -- loaded only when such a kernel is met

    parts: list[bytes] = []
    position = unpacked = 0
    while position + 4 <= len(frame) and unpacked < size:
        (length,) = struct.unpack_from("<I", frame, position)
        position += 4
        if length > len(frame) - position:
            raise ValueError("an LZ4 block runs past its frame")
        room = min(_LZ4_LEGACY_BLOCK, size - unpacked)
        block = frame[position : position + length]
        try:
            parts.append(lz4.block.decompress(block, uncompressed_size=room))
        except lz4.block.LZ4BlockError as error:
            raise ValueError(str(error)) from None
        position += length
        unpacked += len(parts[-1])
    return b"".join(parts)


def has_pvh_entry(elf: bytes) -> bool:
    """Say whether a 64-bit ELF file has the note by which QEMU enters it without firmware."""
    if elf[:6] != b"\x7fELF\x02\x01" or len(elf) < 64:
        return False
    (headers,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for index in range(count):
        position = headers + index * size
        if size < 56 or position + 56 > len(elf):
            return False
        (kind,) = struct.unpack_from("<I", elf, position)
        offset, _, _, length = struct.unpack_from("<QQQQ", elf, position + 8)
        if kind == _PT_NOTE and _has_note(elf[offset : offset + min(length, 1 << 16)]):
            return True
    return False


def _has_note(notes: bytes) -> bool:
    position = 0
    while position + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, position)
        name = notes[position + 12 : position + 12 + name_size]
        if name == b"Xen\0" and kind == XEN_ELFNOTE_PHYS32_ENTRY:
            return True
        position += 12 + (name_size + 3 & ~3) + (size + 3 & ~3)
    return False
