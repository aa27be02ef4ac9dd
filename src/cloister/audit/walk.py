"""An image read as leniently as anybody reads it, in both ways: section after section, and by the tables.

The strict reader (``eif``) refuses what is wrong at its first sight; this one goes on, so that everything
wrong can be told. Spec: nitro-tools 2.1.
"""

import struct
from dataclasses import dataclass
from typing import Final

HEADER_SIZE: Final = 548
SECTION_HEADER_SIZE: Final = 12
MAX_SECTIONS: Final = 32
KERNEL, CMDLINE, RAMDISK, SIGNATURE, METADATA = 1, 2, 3, 4, 5
NAMES: Final = {
    KERNEL: "kernel",
    CMDLINE: "command line",
    RAMDISK: "ramdisk",
    SIGNATURE: "signature",
    METADATA: "metadata",
}
_HEADER: Final = struct.Struct(">4sHHQQHH32Q32QII")
_SECTION: Final = struct.Struct(">HHQ")


@dataclass(frozen=True, slots=True)
class LooseHeader:
    """The file's header as it stands, nothing judged."""

    magic: bytes
    version: int
    flags: int
    default_memory: int
    reserved: int
    count: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    unused: int
    crc32: int

    @classmethod
    def from_bytes(cls, data: memoryview) -> "LooseHeader":
        """Take apart at least 548 bytes."""
        magic, version, flags, memory, _cpus, reserved, count, *tables = _HEADER.unpack_from(data)
        return cls(
            magic,
            version,
            flags,
            memory,
            reserved,
            count,
            tuple(tables[:32]),
            tuple(tables[32:64]),
            *tables[64:],
        )


@dataclass(frozen=True, slots=True)
class LooseSection:
    """A section as one reading has it."""

    offset: int
    kind: int | None
    """None where the section's header lies outside the file."""
    flags: int
    size: int
    """Bytes that it claims; ``payload`` has those that are there."""
    payload: memoryview

    @property
    def end(self) -> int:
        """The first byte that it does not claim."""
        return self.offset + SECTION_HEADER_SIZE + self.size

    @property
    def name(self) -> str:
        """The type in words."""
        return "outside the file" if self.kind is None else NAMES.get(self.kind, f"of type {self.kind}")


def read_in_sequence(view: memoryview) -> tuple[list[LooseSection], int]:
    """Walk as AWS's tools do; return the sections, at most 33, and where the walk stopped."""
    sections, offset = list[LooseSection](), HEADER_SIZE
    while offset + SECTION_HEADER_SIZE <= len(view) and len(sections) <= MAX_SECTIONS:
        section = read_section(view, offset)
        if section.kind not in NAMES:
            break
        sections.append(section)
        offset = min(section.end, len(view))
    return sections, offset


def read_by_tables(view: memoryview, header: LooseHeader) -> list[LooseSection]:
    """Seek as loaders do: the tables say where a section is and how long."""
    found = []
    for offset, size in list(zip(header.offsets, header.sizes, strict=True))[: header.count]:
        section = read_section(view, offset)
        payload = view[min(offset + SECTION_HEADER_SIZE, len(view)) :][:size]
        found.append(LooseSection(offset, section.kind, section.flags, size, payload))
    return found


def read_section(view: memoryview, offset: int) -> LooseSection:
    """Read the section whose header would be at this offset, wherever that is."""
    start = offset + SECTION_HEADER_SIZE
    if start > len(view):
        return LooseSection(offset, None, 0, 0, view[:0])
    kind, flags, size = _SECTION.unpack_from(view, offset)
    return LooseSection(offset, kind, flags, size, view[start : start + size])
