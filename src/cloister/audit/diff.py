"""How two images differ, section by section, down to the first file and attribute that differ.

Ramdisks are compared entry by entry in their order, because the order is measured too. Nothing is kept: where
names part, the rest of each side is searched for the other's name, for as many differences as are wanted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from cloister.audit.naming import shown_name
from cloister.audit.sameness import first_difference
from cloister.cpio import CpioEntry, CpioError, Expand, as_it_is, read_files
from cloister.eif import Image, SectionType

_ATTRIBUTES: Final[tuple[tuple[str, Callable[[CpioEntry], Any]], ...]] = (
    ("mode", lambda entry: f"{entry.mode:06o}"),
    ("owner", lambda entry: f"{entry.uid}:{entry.gid}"),
    ("size", lambda entry: len(entry.content)),
    ("link target", lambda entry: shown_name(entry.target)),
    ("device", lambda entry: f"{entry.node[0]}:{entry.node[1]}"),
    ("links", lambda entry: entry.links),
    ("mtime", lambda entry: entry.mtime),
    ("inode", lambda entry: entry.inode),
    ("file system", lambda entry: f"{entry.device[0]}:{entry.device[1]}"),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One attribute that is not the same."""

    registers: tuple[int, ...]
    """The PCRs that differ because of it; empty for what is not measured."""
    where: str
    attribute: str
    first: Any
    """JSON; None where the first image has no such thing."""
    second: Any

    def to_json(self) -> dict[str, Any]:
        """Return the difference with its registers by name."""
        return {
            "Registers": [f"PCR{index}" for index in self.registers],
            "Where": self.where,
            "Attribute": self.attribute,
            "First": self.first,
            "Second": self.second,
        }


def compare(
    first: Image, second: Image, *, limit: int = 20, expand: Expand = as_it_is
) -> Iterator[Difference]:
    """Yield the differences, measured ones first; at most ``limit`` names in each ramdisk.

    ``expand`` unpacks compressed ramdisks; without it their bytes are compared.
    """
    yield from _bytes_differ((0, 1), "kernel", first.kernel, second.kernel)
    if first.cmdline != second.cmdline:
        yield Difference((0, 1), "command line", "text", first.cmdline, second.cmdline)
    if len(first.ramdisks) != len(second.ramdisks):
        yield Difference((0, 2), "ramdisks", "count", len(first.ramdisks), len(second.ramdisks))
    for number, (one, other) in enumerate(zip(first.ramdisks, second.ramdisks, strict=False), 1):
        registers = (0, 1) if number == 1 else (0, 2)
        yield from _ramdisks_differ(registers, number, (one, other), limit, expand)
    yield from _unmeasured(first, second)


def _bytes_differ(
    registers: tuple[int, ...], where: str, first: memoryview, second: memoryview
) -> Iterator[Difference]:
    offset = first_difference(first, second)
    if offset is None:
        return
    if len(first) != len(second):
        yield Difference(registers, where, "size", len(first), len(second))
    yield Difference(
        registers,
        where,
        f"byte {offset}",
        first[offset : offset + 8].hex(),
        second[offset : offset + 8].hex(),
    )


def _ramdisks_differ(
    registers: tuple[int, ...],
    number: int,
    ramdisks: tuple[memoryview, memoryview],
    limit: int,
    expand: Expand,
) -> Iterator[Difference]:
    if first_difference(*ramdisks) is None:
        return
    where, found = f"ramdisk {number}", False
    try:
        expanded = (expand(ramdisks[0]), expand(ramdisks[1]))
        for difference in _entries_differ(registers, where, expanded, limit):
            found = True
            yield difference
    except CpioError:
        formats = [_complaint(ramdisk, expand) for ramdisk in ramdisks]
        if formats[0] != formats[1]:
            yield Difference(registers, where, "format", *formats)
        found = False
    if not found:  # what no entry shows: padding, trailers, digits in lower case
        yield from _bytes_differ(registers, where, *ramdisks)


def _entries_differ(
    registers: tuple[int, ...], where: str, ramdisks: tuple[memoryview, memoryview], limit: int
) -> Iterator[Difference]:
    left, right = (read_files(ramdisk) for ramdisk in ramdisks)
    one, other, told = next(left, None), next(right, None), 0
    while (one is not None or other is not None) and told < limit:
        if one is not None and other is not None and one.name == other.name:
            differences = list(_attributes_differ(registers, where, one, other))
            told += bool(differences)
            yield from differences
            one, other = next(left, None), next(right, None)
            continue
        told += 1
        missing_right = one is not None and not _holds(ramdisks[1], one.name)
        missing_left = other is not None and not _holds(ramdisks[0], other.name)
        if one is not None and missing_right:
            yield Difference(registers, f"{where}: {shown_name(one.name)}", "presence", "there", None)
            one = next(left, None)
        if other is not None and missing_left:
            yield Difference(registers, f"{where}: {shown_name(other.name)}", "presence", None, "there")
            other = next(right, None)
        if not missing_left and not missing_right:
            names = [None if entry is None else shown_name(entry.name) for entry in (one, other)]
            yield Difference(registers, where, "order", *names)
            return  # from here on nothing corresponds by position


def _complaint(ramdisk: memoryview, expand: Expand) -> str | None:
    """Return why a ramdisk cannot be read to its end, or None."""
    try:
        for _ in read_files(expand(ramdisk)):
            pass
    except CpioError as error:
        return error.message
    return None


def _holds(ramdisk: memoryview, name: bytes) -> bool:
    return any(entry.name == name for entry in read_files(ramdisk))


def _attributes_differ(
    registers: tuple[int, ...], where: str, one: CpioEntry, other: CpioEntry
) -> Iterator[Difference]:
    place = f"{where}: {shown_name(one.name)}"
    for attribute, read in _ATTRIBUTES:
        if read(one) != read(other):
            yield Difference(registers, place, attribute, read(one), read(other))
    offset = first_difference(one.content, other.content)
    if offset is not None and not one.target:
        around = [content[offset : offset + 8].hex() for content in (one.content, other.content)]
        yield Difference(registers, place, f"content, byte {offset}", *around)


def _unmeasured(first: Image, second: Image) -> Iterator[Difference]:
    for name in ("architecture", "default_memory", "default_cpus"):
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            yield Difference((), "header", name.replace("_", " "), one, other)
    said = [image.stale_signature_size for image in (first, second)]
    if said[0] != said[1]:
        yield Difference((), "header", "stale size of the signature", *said)
    orders = [[section.kind.name.lower() for section in image.sections] for image in (first, second)]
    if orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]):
        yield Difference((), "sections", "order", *(", ".join(order) for order in orders))
    fields = [_metadata(image) for image in (first, second)]
    for field in sorted(fields[0].keys() | fields[1].keys()):
        one, other = (side.get(field) for side in fields)
        if one != other:
            yield Difference((), "metadata", field, one, other)
    yield from _signatures_differ(first, second)


def _metadata(image: Image) -> dict[str, Any]:
    if image.metadata is None:
        return {}
    told = image.metadata
    return {
        "ImageName": told.image_name,
        "ImageVersion": told.image_version,
        "BuildTime": told.build.build_time,
        "BuildTool": told.build.build_tool,
        "BuildToolVersion": told.build.build_tool_version,
        "OperatingSystem": told.build.operating_system,
        "KernelVersion": told.build.kernel_version,
        "DockerInfo": told.docker_info,
        "CustomMetadata": told.custom,
        "KitDigest": told.kit_digest,
    }


def _signatures_differ(first: Image, second: Image) -> Iterator[Difference]:
    signatures = [image.signature for image in (first, second)]
    certificates = [None if one is None else one.certificate_der for one in signatures]
    if certificates[0] != certificates[1]:
        subjects = [None if one is None else one.certificate.subject.rfc4514_string() for one in signatures]
        yield Difference((8,), "signature", "certificate", *subjects)
    payloads = [list(islice(image.payloads(SectionType.SIGNATURE), 1)) for image in (first, second)]
    if all(payloads) and certificates[0] == certificates[1] and payloads[0] != payloads[1]:
        yield from _bytes_differ((), "signature", payloads[0][0], payloads[1][0])
