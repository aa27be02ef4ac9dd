"""The two headers of an enclave image file: the file's own (548 bytes) and each section's (12 bytes).

All integers are big-endian. Spec: nitro-tools 2.1 (AWS image-format 0.5 to 0.8, EIF version 4). Older
versions are refused: they lack the CRC or the section tables that this reader compares with the file.
"""

import struct
from dataclasses import dataclass
from typing import Final

from cloister.errors import CloisterError

MAGIC: Final = b".eif"
VERSION: Final = 4
MAX_SECTIONS: Final = 32
HEADER_SIZE: Final = 548
SECTION_HEADER_SIZE: Final = 12
CRC_OFFSET: Final = 544
"""The checksum covers everything but itself, and it is the header's last field."""

DEFAULT_MEMORY: Final = 1 << 30
"""Bytes, as every AWS builder writes it; no loader reads it."""
DEFAULT_CPUS: Final = 2

_FLAGS: Final = {"x86_64": 0, "aarch64": 1}
_ARCHITECTURES: Final = {flags: name for name, flags in _FLAGS.items()}
_HEADER: Final = struct.Struct(">4sHHQQHH32Q32QII")
_SECTION: Final = struct.Struct(">HHQ")


class EifError(CloisterError):
    """These bytes are not an enclave image this project accepts."""


@dataclass(frozen=True, slots=True)
class EifHeader:
    """The first 548 bytes of an image."""

    architecture: str
    default_memory: int
    default_cpus: int
    offsets: tuple[int, ...]
    """Where each section's header starts, in bytes from the start of the file."""
    sizes: tuple[int, ...]
    """Payload bytes of each section, without its header."""
    crc32: int = 0

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> "EifHeader":
        """Decode and check everything the header alone can show to be wrong; raises EifError."""
        if len(data) < HEADER_SIZE:
            raise EifError(
                f"The file is {len(data)} bytes long, shorter than the {HEADER_SIZE}-byte header of an EIF."
            )
        magic, version, flags, memory, cpus, reserved, count, *tables = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise EifError(
                f'The file starts with {magic.hex(" ")} instead of 2e 65 69 66 (".eif"): it is not an EIF.'
            )
        if version != VERSION:
            raise EifError(f"The EIF's version is {version}; only version {VERSION} is supported.")
        if flags not in _ARCHITECTURES:
            raise EifError(f"The EIF's flags are {flags:#06x}; expected 0 (x86_64) or 1 (aarch64).")
        if not 1 <= count <= MAX_SECTIONS:
            raise EifError(f"The EIF's header announces {count} sections; expected 1 to {MAX_SECTIONS}.")
        offsets, sizes, (unused, crc32) = tables[:32], tables[32:64], tables[64:]
        if reserved or unused or any(offsets[count:]) or any(sizes[count:]):
            raise EifError("The EIF's header has non-zero bytes in fields that must be zero.")
        return cls(_ARCHITECTURES[flags], memory, cpus, tuple(offsets[:count]), tuple(sizes[:count]), crc32)

    def to_bytes(self) -> bytes:
        """Encode; raises EifError when a field does not fit the format."""
        if self.architecture not in _FLAGS:
            raise EifError(f"The architecture is {self.architecture!r}; an EIF is for {' or '.join(_FLAGS)}.")
        count = len(self.offsets)
        if count != len(self.sizes) or count > MAX_SECTIONS:
            raise EifError(f"The image has {count} sections; an EIF holds at most {MAX_SECTIONS}.")
        unused = (0,) * (MAX_SECTIONS - count)
        fields = (MAGIC, VERSION, _FLAGS[self.architecture], self.default_memory, self.default_cpus, 0, count)
        try:
            return _HEADER.pack(*fields, *self.offsets, *unused, *self.sizes, *unused, 0, self.crc32)
        except struct.error as error:
            raise EifError(f"A field of the EIF's header does not fit: {error}.") from error


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """What stands before each section's payload; the type's meaning is judged by ``sections``."""

    kind: int
    size: int

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> "SectionHeader":
        """Decode exactly 12 bytes; raises EifError."""
        if len(data) != SECTION_HEADER_SIZE:
            raise EifError(
                f"The EIF ends inside a section header: {len(data)} of {SECTION_HEADER_SIZE} bytes are there."
            )
        kind, flags, size = _SECTION.unpack(data)
        if flags:
            raise EifError(f"A section's flags are {flags:#06x}; expected 0.")
        return cls(kind, size)

    def to_bytes(self) -> bytes:
        """Encode."""
        return _SECTION.pack(self.kind, 0, self.size)
