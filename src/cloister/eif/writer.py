"""Writing an enclave image as a stream: each section passes through once, whatever its size.

The header goes in last, by seeking back; the checksum is computed on the way, and a tap is shown the very
bytes that are written: an image that was measured meanwhile is given its signature without being read again.
Spec: nitro-tools 2.1.
"""

import zlib
from collections.abc import Iterable, Iterator
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
from cloister.eif.sections import SectionSource, SectionType, Tap, check_order
from cloister.mapped import PIECE, pieces


class EifWriter:
    """Writes one image to a seekable file that is at its start and empty."""

    def __init__(
        self,
        out: BinaryIO,
        *,
        architecture: str = "x86_64",
        default_memory: int = DEFAULT_MEMORY,
        default_cpus: int = DEFAULT_CPUS,
        tap: Tap | None = None,
    ) -> None:
        self._out = out
        self._tap = tap
        self._architecture = architecture
        self._default_memory = default_memory
        self._default_cpus = default_cpus
        self._kinds: list[SectionType] = []
        self._offsets: list[int] = []
        self._sizes: list[int] = []
        self._end = HEADER_SIZE
        self._crc32 = 0
        self.crc32 = 0
        """Of the whole file, once it is sealed."""
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
        if self._tap is not None:
            self._tap.begin(source.kind)
        for piece in _gathered(source.chunks):
            written += len(piece)
            if written > source.size:
                break
            if self._tap is not None:
                self._tap.update(piece)  # first, so that whoever hashes it works while it is written
            crc32 = zlib.crc32(piece, crc32)
            self._out.write(piece)
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
        self.crc32 = combine_crc32(covered, self._crc32, self._end - HEADER_SIZE)
        self._out.seek(0)
        self._out.write(replace(header, crc32=self.crc32).to_bytes())
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


def _gathered(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Join small chunks and part large ones: pieces below 2 MiB of the same bytes."""
    waiting, size = list[bytes | memoryview](), 0
    for chunk in chunks:
        for piece in (chunk,) if len(chunk) <= PIECE else pieces(chunk):
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE:
                yield _joined(waiting)
                waiting, size = [], 0
    if size:
        yield _joined(waiting)


def _joined(waiting: list[bytes | memoryview]) -> bytes | memoryview:
    return waiting[0] if len(waiting) == 1 else b"".join(waiting)
