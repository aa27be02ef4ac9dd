"""Sections of an enclave image: their types, a strict walk over a file's, and sources to write from.

Readers in the field disagree: AWS's tools walk the sections one after the other, loaders seek by the
header's tables, and an image on which the two differ is measured as one thing and booted as another. The
walk here accepts only files on which both readings are the same. Spec: nitro-tools 2.1, 2.2; security
checklist 5.6.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from cloister.eif.header import HEADER_SIZE, SECTION_HEADER_SIZE, EifError, EifHeader, SectionHeader


class SectionType(IntEnum):
    """What a section holds (nitro-tools 2.1)."""

    KERNEL = 1
    CMDLINE = 2
    RAMDISK = 3
    SIGNATURE = 4
    METADATA = 5


@dataclass(frozen=True, slots=True)
class Section:
    """A section as it stands in a buffer; the payload is a view, not a copy."""

    kind: SectionType
    offset: int
    """Bytes from the start of the file to the section's header."""
    payload: memoryview


@dataclass(frozen=True, slots=True)
class SectionSource:
    """A section still to be written: payload chunks whose lengths must add up to ``size`` bytes."""

    kind: SectionType
    size: int
    chunks: Iterable[bytes | memoryview]

    @classmethod
    def of(cls, kind: SectionType, payload: bytes | memoryview) -> "SectionSource":
        """Write a payload that is at hand already."""
        return cls(kind, len(payload), (payload,))


class Tap(Protocol):
    """Someone who is shown every payload, in file order, while it is read or written for another reason.

    A piece stays as it is, so that it can be looked at later or elsewhere.
    """

    def begin(self, kind: SectionType) -> None:
        """Note that the pieces from now on are a new section's, which may have none."""

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next bytes of the section."""


def walk_sections(
    header: EifHeader, buffer: memoryview, *, check_signature_size: bool = True
) -> Iterator[Section]:
    """Yield the sections in file order, each checked against the header's tables; raises EifError.

    ``check_signature_size=False`` takes a signature's size from its own header alone.
    """
    offset = HEADER_SIZE
    for number, (said_offset, said_size) in enumerate(zip(header.offsets, header.sizes, strict=True), 1):
        if said_offset != offset:
            raise EifError(
                f"The EIF's header puts section {number} at byte {said_offset}, but it starts at {offset}."
            )
        start = offset + SECTION_HEADER_SIZE
        head = SectionHeader.from_bytes(buffer[offset:start])
        kind = _section_type(head.kind, number)
        if head.size != said_size and (check_signature_size or kind is not SectionType.SIGNATURE):
            again = ": sign it anew with sign-eif" if kind is SectionType.SIGNATURE else ""
            raise EifError(
                f"Section {number} ({kind.name.lower()}) is {head.size} bytes long by its own header "
                f"but {said_size} by the file's{again}."
            )
        if head.size > len(buffer) - start:
            raise EifError(
                f"Section {number} ({kind.name.lower()}) needs {head.size} bytes, but the file has only "
                f"{len(buffer) - start} left: it is truncated."
            )
        yield Section(kind, offset, buffer[start : start + head.size])
        offset = start + head.size
    if offset != len(buffer):
        raise EifError(f"The EIF has {len(buffer) - offset} bytes after its last section; expected none.")


def check_order(kinds: Iterable[SectionType]) -> None:
    """Refuse what two readers could understand differently; raises EifError.

    One kernel, one command line, at most one metadata and one signature section, at least one ramdisk;
    kernel and command line come first and the signature last, as every builder writes them and as the PCRs
    are computed.
    """
    order = list(kinds)
    for kind in SectionType:
        count = order.count(kind)
        if kind is not SectionType.RAMDISK and count > 1:
            raise EifError(f"The EIF has {count} {kind.name.lower()} sections; expected one at most.")
    if order[:2] != [SectionType.KERNEL, SectionType.CMDLINE]:
        names = ", ".join(kind.name.lower() for kind in order[:2]) or "nothing"
        raise EifError(f"The EIF starts with {names}; expected a kernel and then a command line.")
    if SectionType.RAMDISK not in order:
        raise EifError("The EIF has no ramdisk; expected at least one.")
    if SectionType.SIGNATURE in order[:-1]:
        raise EifError("The EIF's signature section is not its last section.")


def _section_type(value: int, number: int) -> SectionType:
    try:
        return SectionType(value)
    except ValueError:
        raise EifError(f"Section {number} has the unknown type {value}; expected 1 to 5.") from None
