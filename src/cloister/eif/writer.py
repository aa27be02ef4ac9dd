"""Writing an enclave image as a stream: each section passes through once, whatever its size.

The header goes in last, by seeking back; the checksum is computed on the way. Sealing twice is allowed: an
image can be sealed, measured, given the signature over that measurement, and sealed again. Spec:
nitro-tools 2.1.
"""

import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO

from cloister.eif.checksum import combine_crc32
from cloister.eif.header import (
    CRC_OFFSET,
    DEFAULT_CPUS,
    DEFAULT_MEMORY,
    HEADER_SIZE,
    MAX_SECTIONS,
    SECTION_HEADER_SIZE,
    EifError,
    EifHeader,
    SectionHeader,
)
from cloister.eif.sections import SectionSource, SectionType, check_order


class EifWriter:
    """Writes one image to a seekable file that is at its start and empty."""

    def __init__(
        self,
        out: BinaryIO,
        *,
        architecture: str = "x86_64",
        default_memory: int = DEFAULT_MEMORY,
        default_cpus: int = DEFAULT_CPUS,
    ) -> None:
        self._out = out
        self._architecture = architecture
        self._default_memory = default_memory
        self._default_cpus = default_cpus
        self._kinds: list[SectionType] = []
        self._offsets: list[int] = []
        self._sizes: list[int] = []
        self._end = HEADER_SIZE
        self._crc32 = 0
        out.write(bytes(HEADER_SIZE))

    def add(self, source: SectionSource) -> None:
        """Append one section; raises EifError when its chunks are not as long as announced."""
        if len(self._sizes) == MAX_SECTIONS:
            raise EifError(
                f"The image would have more than {MAX_SECTIONS} sections, which an EIF cannot hold."
            )
        head = SectionHeader(source.kind, source.size).to_bytes()
        self._out.seek(self._end)
        self._out.write(head)
        crc32, written = zlib.crc32(head, self._crc32), 0
        for chunk in source.chunks:
            written += len(chunk)
            if written > source.size:
                break
            crc32 = zlib.crc32(chunk, crc32)
            self._out.write(chunk)
        if written != source.size:
            relation = "more than" if written > source.size else f"{written} bytes instead of"
            raise EifError(
                f"The {source.kind.name.lower()} section gave {relation} its announced {source.size} bytes."
            )
        self._kinds.append(source.kind)
        self._offsets.append(self._end)
        self._sizes.append(source.size)
        self._end += SECTION_HEADER_SIZE + source.size
        self._crc32 = crc32

    def seal(self) -> int:
        """Write the header for the sections so far and return the file's size in bytes; raises EifError."""
        check_order(self._kinds)
        header = EifHeader(
            self._architecture,
            self._default_memory,
            self._default_cpus,
            tuple(self._offsets),
            tuple(self._sizes),
        )
        covered = zlib.crc32(header.to_bytes()[:CRC_OFFSET])
        crc32 = combine_crc32(covered, self._crc32, self._end - HEADER_SIZE)
        self._out.seek(0)
        self._out.write(replace(header, crc32=crc32).to_bytes())
        self._out.flush()
        return self._end


def write_eif(
    out: BinaryIO,
    sections: Iterable[SectionSource],
    *,
    architecture: str = "x86_64",
    default_memory: int = DEFAULT_MEMORY,
    default_cpus: int = DEFAULT_CPUS,
) -> int:
    """Write a whole image and return its size in bytes; raises EifError."""
    writer = EifWriter(
        out, architecture=architecture, default_memory=default_memory, default_cpus=default_cpus
    )
    for section in sections:
        writer.add(section)
    return writer.seal()
