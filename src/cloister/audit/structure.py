"""Judging an image's structure: header, tables, boundaries, order, checksum. Spec: nitro-tools 2.1, 2.2."""

import zlib
from collections import Counter
from typing import Final

from cloister.audit.findings import Findings
from cloister.audit.walk import (
    CMDLINE,
    HEADER_SIZE,
    KERNEL,
    MAX_SECTIONS,
    METADATA,
    NAMES,
    RAMDISK,
    SECTION_HEADER_SIZE,
    SIGNATURE,
    LooseHeader,
    LooseSection,
    read_by_tables,
    read_in_sequence,
    read_section,
)
from cloister.mapped import pieces

_CRC_OFFSET: Final = 544


def judge_structure(view: memoryview, findings: Findings) -> tuple[LooseHeader, list[LooseSection]] | None:
    """Judge the whole file; return header and sections as walked, or None where it is no image at all."""
    if len(view) < HEADER_SIZE:
        findings.add("L101", "file", f"The file has {len(view)} bytes; a header alone has {HEADER_SIZE}.")
        return None
    header = LooseHeader.from_bytes(view)
    if header.magic != b".eif":
        findings.add("L101", "header", f'The file starts with {header.magic.hex(" ")}; expected ".eif".')
        return None
    _judge_header(header, findings)
    sections, stopped = read_in_sequence(view)
    _judge_walk(view, header, sections, stopped, findings)
    tabled = read_by_tables(view, header) if header.count <= MAX_SECTIONS else []
    _judge_signature_size(sections, tabled, findings)
    _judge_tables(view, tabled, findings)
    _compare_readings(sections, tabled, findings)
    _judge_order(sections, findings)
    _judge_checksum(view, header, findings)
    return header, sections


def _judge_header(header: LooseHeader, findings: Findings) -> None:
    if header.version != 4:
        findings.add("L102", "header", f"The version is {header.version}; expected 4.")
    if header.flags not in (0, 1):
        findings.add("L103", "header", f"The flags are {header.flags:#06x}; expected 0 or 1.")
    if not 1 <= header.count <= MAX_SECTIONS:
        findings.add(
            "L104", "header", f"{header.count} sections are announced; expected 1 to {MAX_SECTIONS}."
        )
    count = min(header.count, MAX_SECTIONS)
    if header.reserved or header.unused or any(header.offsets[count:]) or any(header.sizes[count:]):
        findings.add("L105", "header", "Reserved fields or unused table entries are not zero.")


def _judge_walk(
    view: memoryview, header: LooseHeader, sections: list[LooseSection], stopped: int, findings: Findings
) -> None:
    for number, section in enumerate(sections, 1):
        where = f"section {number} ({section.name})"
        if section.flags:
            findings.add("L112", where, f"The flags are {section.flags:#06x}; expected 0.")
        if section.size != len(section.payload):
            findings.add(
                "L109", where, f"{section.size} bytes are claimed, {len(section.payload)} are there."
            )
    left = len(view) - stopped
    if not left:
        return
    number = len(sections) + 1
    if number > MAX_SECTIONS:
        findings.add("L104", "file", f"More than {MAX_SECTIONS} sections follow one another.")
    elif number > header.count or left < SECTION_HEADER_SIZE:
        findings.add("L108", "file", f"{left} bytes follow the last section, from byte {stopped} on.")
    else:
        kind = read_section(view, stopped).kind
        findings.add("L111", f"section {number}", f"The type at byte {stopped} is {kind}; expected 1 to 5.")


def _judge_signature_size(walked: list[LooseSection], tabled: list[LooseSection], findings: Findings) -> None:
    """Tell what AWS's re-signing leaves behind, and nothing else of it (image-format#54)."""
    if len(walked) != len(tabled) or not walked or walked[-1].kind != SIGNATURE:
        return
    one, other = walked[-1], tabled[-1]
    if other.kind == SIGNATURE and other.offset == one.offset and other.size != one.size:
        findings.add("L119", "header", f"The signature has {one.size} bytes; the table says {other.size}.")
        tabled[-1] = one


def _judge_tables(view: memoryview, tabled: list[LooseSection], findings: Findings) -> None:
    """Find gaps and overlaps between the sections as the tables have them."""
    end, before = HEADER_SIZE, "the header"
    for section in sorted(tabled, key=lambda section: section.offset):
        where = f"table ({section.name})"
        if section.offset > end:
            findings.add("L106", where, f"{section.offset - end} bytes after {before} belong to no section.")
        elif section.offset < end:
            findings.add("L107", where, f"It starts at byte {section.offset}, before {before} ends at {end}.")
        if section.end > len(view):
            findings.add("L109", where, f"It ends at byte {section.end}; the file has {len(view)}.")
        end, before = max(end, section.end), f"the {section.name} section"
    if tabled and end < len(view):
        findings.add("L108", "table", f"{len(view) - end} bytes follow what the header's tables list.")


def _compare_readings(walked: list[LooseSection], tabled: list[LooseSection], findings: Findings) -> None:
    if len(walked) != len(tabled):
        findings.add(
            "L110", "header", f"The header lists {len(tabled)} sections; walking finds {len(walked)}."
        )
    for number, (one, other) in enumerate(zip(walked, tabled, strict=False), 1):
        if (one.offset, one.kind, one.size) != (other.offset, other.kind, other.size):
            findings.add(
                "L110",
                f"section {number}",
                f"Walking finds {one.name}, {one.size} bytes at {one.offset}; "
                f"the header's tables have {other.name}, {other.size} bytes at {other.offset}.",
            )


def _judge_order(sections: list[LooseSection], findings: Findings) -> None:
    kinds = [section.kind for section in sections]
    counts = Counter(kinds)
    for kind in (KERNEL, CMDLINE, METADATA, SIGNATURE):
        if counts[kind] > 1:
            findings.add(
                "L114", "sections", f"There are {counts[kind]} {NAMES[kind]} sections; expected one."
            )
    for kind in (KERNEL, CMDLINE, RAMDISK):
        if not counts[kind]:
            findings.add("L116", "sections", f"There is no {NAMES[kind]} section.")
        elif kind is KERNEL and not all(len(one.payload) for one in sections if one.kind == KERNEL):
            findings.add("L116", "sections", "The kernel section is empty.")
    if counts[KERNEL] and counts[CMDLINE] and kinds[:2] != [KERNEL, CMDLINE]:
        findings.add("L115", "sections", "Kernel and command line are not the first two sections, in order.")
    if SIGNATURE in kinds[:-1]:
        findings.add("L115", "sections", "The signature is not the last section.")


def _judge_checksum(view: memoryview, header: LooseHeader, findings: Findings) -> None:
    crc32 = zlib.crc32(view[:_CRC_OFFSET])
    for piece in pieces(view[HEADER_SIZE:]):
        crc32 = zlib.crc32(piece, crc32)
    if crc32 != header.crc32:
        findings.add("L113", "header", f"The checksum is {crc32:08x}; the header says {header.crc32:08x}.")
