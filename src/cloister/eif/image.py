"""An enclave image in a buffer: the one reader behind describing, measuring, signing and loading.

Strict where AWS's readers are lenient (magic, version, flags, tables, gaps, trailing bytes, checksum),
because what two readers understand differently is a way to boot something other than what was measured.
Payloads are views: over an ``mmap`` nothing is copied, and a pass over the bytes keeps few of its pages.
All bytes are read once, for the checksum; a tap sees the payloads meanwhile.
Spec: nitro-tools 2.1, 2.3, 2.4; security checklist 5.6.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cloister.eif.header import CRC_OFFSET, HEADER_SIZE, SECTION_HEADER_SIZE, EifError, EifHeader
from cloister.eif.metadata import ImageMetadata
from cloister.eif.sections import Section, SectionType, Tap, check_order, walk_sections
from cloister.eif.signature import SignatureSection
from cloister.mapped import pieces

MAX_CMDLINE: Final = 4096
"""Bytes: twice what x86 kernels keep (COMMAND_LINE_SIZE is 2048)."""


class ChecksumError(EifError):
    """The structure is sound but the bytes are not those the checksum was made for."""


@dataclass(frozen=True, slots=True)
class Image:
    """A well-formed enclave image; every view stays valid as long as the buffer it came from."""

    header: EifHeader
    sections: tuple[Section, ...]
    """In file order."""
    metadata: ImageMetadata | None
    signature: SignatureSection | None
    cmdline: str
    size: int
    """Bytes of the whole file."""
    computed_crc32: int

    @classmethod
    def from_buffer(
        cls,
        buffer: bytes | memoryview,
        *,
        check_crc: bool = True,
        check_signature_size: bool = True,
        tap: Tap | None = None,
        crc32: int | None = None,
    ) -> "Image":
        """Read an image; raises EifError.

        ``check_crc=False`` leaves a wrong checksum to the caller, ``check_signature_size=False`` a size of
        the signature that the file's header has wrong: nitro-cli forgets to update it when it signs anew.
        Neither is for what will be booted. ``tap`` is shown the payloads; with the ``crc32`` of whoever wrote
        these bytes they are not read again, and nothing is shown.
        """
        view = memoryview(buffer).toreadonly().cast("B")
        header = EifHeader.from_bytes(view[:HEADER_SIZE])
        sections = tuple(walk_sections(header, view, check_signature_size=check_signature_size))
        check_order(section.kind for section in sections)
        if crc32 is None:
            crc32 = _read_through(view, sections, tap)
        if check_crc and crc32 != header.crc32:
            raise ChecksumError(
                f"The EIF's checksum is {crc32:08x} but its header says {header.crc32:08x}: "
                "the file was damaged or changed."
            )
        payloads = {section.kind: section.payload for section in sections}
        if not payloads[SectionType.KERNEL]:
            raise EifError("The EIF's kernel section is empty.")
        metadata = payloads.get(SectionType.METADATA)
        signature = payloads.get(SectionType.SIGNATURE)
        return cls(
            header,
            sections,
            None if metadata is None else ImageMetadata.from_bytes(metadata),
            None if signature is None else SignatureSection.from_bytes(signature),
            _cmdline(payloads[SectionType.CMDLINE]),
            len(view),
            crc32,
        )

    @property
    def architecture(self) -> str:
        """``x86_64`` or ``aarch64``."""
        return self.header.architecture

    @property
    def default_memory(self) -> int:
        """Bytes, as the builder wrote it."""
        return self.header.default_memory

    @property
    def default_cpus(self) -> int:
        """CPUs, as the builder wrote it."""
        return self.header.default_cpus

    @property
    def crc_ok(self) -> bool:
        """Whether the checksum matches; only ever false after ``check_crc=False``."""
        return self.computed_crc32 == self.header.crc32

    @property
    def stale_signature_size(self) -> int | None:
        """What the header says of the signature's size where that is wrong (image-format#54)."""
        said, last = self.header.sizes[-1], self.sections[-1]
        return said if said != len(last.payload) else None

    @property
    def kernel(self) -> memoryview:
        """The kernel's bytes as they stand in the image."""
        return self.payloads(SectionType.KERNEL)[0]

    @property
    def ramdisks(self) -> tuple[memoryview, ...]:
        """The ramdisks in file order: the first boots, the others are the customer's."""
        return self.payloads(SectionType.RAMDISK)

    def payloads(self, *kinds: SectionType) -> tuple[memoryview, ...]:
        """Return the payloads of these types in file order, which is how they are measured."""
        return tuple(section.payload for section in self.sections if section.kind in kinds)


def _read_through(view: memoryview, sections: Iterable[Section], tap: Tap | None) -> int:
    """Return the checksum of the header and of the sections, which are all that is in the file."""
    crc32 = zlib.crc32(view[:CRC_OFFSET])
    for section in sections:
        crc32 = zlib.crc32(view[section.offset : section.offset + SECTION_HEADER_SIZE], crc32)
        if tap is not None:
            tap.begin(section.kind)
        for piece in pieces(section.payload):
            if tap is not None:
                tap.update(piece)
            crc32 = zlib.crc32(piece, crc32)
    return crc32


def _cmdline(payload: memoryview) -> str:
    if len(payload) > MAX_CMDLINE:
        raise EifError(
            f"The EIF's command line is {len(payload)} bytes long; expected at most {MAX_CMDLINE}."
        )
    try:
        text = bytes(payload).decode("ascii")
    except UnicodeDecodeError as error:
        raise EifError(f"The EIF's command line is not ASCII: byte {payload[error.start]:#04x}.") from None
    if any(ord(character) < 32 for character in text):
        raise EifError("The EIF's command line holds control characters; expected one line of text.")
    return text
