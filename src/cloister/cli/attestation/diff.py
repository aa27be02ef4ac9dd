"""``cloister attestation diff``: how two documents differ, or a document and an image."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Self

from cloister.cli.attestation.certificates import CertificateView, span
from cloister.cli.attestation.dissection import OPTIONAL, Dissection, dissect
from cloister.cli.attestation.expectations import image_registers
from cloister.cli.attestation.report import meaning
from cloister.cli.attestation.sources import FORMS, read_document
from cloister.cli.options import FILES, name_argument
from cloister.cli.table import plain
from cloister.errors import CloisterError
from cloister.pcrs import IMAGE_PCRS, ZERO_PCR

SUMMARY: Final = "say how two documents differ, or a document and an image"
DESCRIPTION: Final = f"""Say how two documents differ, or one and what an image measures; believe neither.

  cloister attestation diff yesterday.cose today.cose
  cloister attestation diff yesterday.cose today.cose --only pcrs
  cloister attestation diff hello.cose hello.eif

Exit 0 when nothing differs, 1 when something does, 2 when there is trouble, as diff does.
Of an image, PCR0, 1, 2 and 8 are compared; either may be the image, by its file's name.

{FORMS}"""
SECTIONS: Final = ("pcrs", "identity", "fields", "chain", "time")
_MAGIC: Final = b".eif"
_SHOWN: Final = 64
"""Hexadecimal digits of a long field shown to people."""
_ABSENT: Final = "none"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs: where, what, and both values as text; None where there is none."""

    section: str
    what: str
    first: str | None
    second: str | None
    note: str = ""

    @classmethod
    def between(cls, section: str, what: str, sides: Iterable[str | None], note: str = "") -> Self:
        """Make one from both sides at once."""
        first, second = sides
        return cls(section, what, first, second, note)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    for name, what in (("first", "a document, or an image (EIF file)"), ("second", "the other one")):
        parser.add_argument(name, metavar=name.upper(), type=name_argument, help=what).complete = FILES  # type: ignore[attr-defined]
    parser.add_argument(
        "--only",
        choices=SECTIONS,
        action="append",
        help="compare only this; repeatable (default: everything)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    differences = _compare(args)
    wanted = args.only or SECTIONS
    differences = [one for one in differences if one.section in wanted]
    if args.json:
        print(json.dumps([_as_json(one) for one in differences], indent=2))
    else:
        for one in differences:
            print("\n".join(_lines(one)))
    return int(bool(differences))


def _compare(args: argparse.Namespace) -> list[Difference]:
    if args.first == args.second == "-":
        raise CloisterError("standard input holds one document, not two")
    images = [_is_image(word) for word in (args.first, args.second)]
    if images == [False, False]:
        first, second = (dissect(read_document(word)) for word in (args.first, args.second))
        return list(_differences(first, second)) or list(_unreadable_differences(first, second))
    if args.only and set(args.only) != {"pcrs"}:
        raise CloisterError("an image has measurements only, so that --only pcrs is all there is to compare")
    measured = [
        image_registers(Path(word)) if image else dissect(read_document(word)).pcrs
        for word, image in zip((args.first, args.second), images, strict=True)
    ]
    compared = {0, 1, 2, 8}
    told = {index for registers in measured for index, value in registers.items() if value != ZERO_PCR}
    first_registers, second_registers = (
        {index: value for index, value in registers.items() if index in compared & told}
        for registers in measured
    )
    debug = any(not any(any(registers.get(index, b"")) for index in IMAGE_PCRS) for registers in measured)
    note = "in debug mode a document shows no image's" if debug else ""
    return list(_register_differences(first_registers, second_registers, nitrotpm=False, note=note))


def _is_image(word: str) -> bool:
    """Whether a word names a file that begins as images do."""
    try:
        with Path(word).open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False


def _differences(first: Dissection, second: Dissection) -> Iterator[Difference]:
    """Yield what differs, the most telling first."""
    nitrotpm = first.nitrotpm and second.nitrotpm
    if first.nitrotpm != second.nitrotpm:
        kinds = [("an enclave", "a NitroTPM")[side.nitrotpm] for side in (first, second)]
        yield Difference.between("identity", "platform", kinds)
    yield from _register_differences(first.pcrs, second.pcrs, nitrotpm=nitrotpm)
    if first.module_id != second.module_id:
        yield Difference("identity", "module", first.module_id, second.module_id, _relation(first, second))
    for name in OPTIONAL:
        if first.value(name) != second.value(name):
            yield Difference("fields", name, _shown(first.value(name)), _shown(second.value(name)))
    known = {"module_id", "timestamp", "pcrs", "nitrotpm_pcrs", "certificate", "cabundle", *OPTIONAL}
    for name in [name for name in {**first.fields, **second.fields} if name not in known]:
        sides = [repr(side.fields[name]) if name in side.fields else None for side in (first, second)]
        if sides[0] != sides[1]:
            yield Difference.between("fields", str(name), sides)
    yield from _chain_differences(first.certificates, second.certificates)
    if first.fields.get("timestamp") != second.fields.get("timestamp"):
        yield Difference("time", "time", _moment(first), _moment(second), _distance(first.time, second.time))


def _unreadable_differences(first: Dissection, second: Dissection) -> Iterator[Difference]:
    """Yield that something differs which neither side's readable parts show, as in malformed fields."""
    sides = [
        {name: value for name, value in side.fields.items() if value is not None} for side in (first, second)
    ]
    if sides[0] != sides[1]:
        yield Difference.between("fields", "content that cannot be read", [None, None])


def _register_differences(
    first: Mapping[int, bytes], second: Mapping[int, bytes], *, nitrotpm: bool, note: str = ""
) -> Iterator[Difference]:
    for index in sorted({*first, *second}):
        if first.get(index) != second.get(index):
            words = (meaning(index, nitrotpm=nitrotpm), note)
            sides = [None if side.get(index) is None else side[index].hex() for side in (first, second)]
            yield Difference.between("pcrs", f"PCR{index}", sides, ", ".join(filter(None, words)))


def _relation(first: Dissection, second: Dissection) -> str:
    """Say how two modules are related, if both ids have Nitro's form."""
    one, other = first.module, second.module
    if one is None or other is None:
        return ""
    if one.instance_id == other.instance_id:
        return "two enclaves of one host"
    return "enclaves of two hosts"


def _chain_differences(
    first: Sequence[CertificateView], second: Sequence[CertificateView]
) -> Iterator[Difference]:
    """Compare certificate by certificate, the root first."""
    last = max(len(first), len(second)) - 1
    for depth, (one, other) in enumerate(zip_longest(first, second)):
        if one is None or other is None or one.fingerprint != other.fingerprint:
            title = "root" if depth == 0 else "signer" if depth == last else f"CA {depth}"
            note = ""
            if one and other and one.common_name == other.common_name and not one.problem:
                note = "the same name, another certificate"
            yield Difference.between("chain", title, map(_certificate, (one, other)), note)


def _certificate(view: CertificateView | None) -> str | None:
    if view is None:
        return None
    ends = f", until {view.not_after:%Y-%m-%d %H:%M:%S} UTC" if view.problem is None else ""
    return f"{view.common_name}{ends}, SHA-256 {view.fingerprint}"


def _shown(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _moment(side: Dissection) -> str | None:
    return None if side.time is None else f"{side.time:%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def _distance(first: datetime | None, second: datetime | None) -> str:
    if first is None or second is None:
        return ""
    return f"{span(abs(second - first))} {'later' if second > first else 'earlier'}"


def _as_json(one: Difference) -> dict[str, Any]:
    return {
        "Section": one.section,
        "What": plain(one.what[:_SHOWN]),
        "First": one.first,
        "Second": one.second,
        "Note": one.note,
    }


def _lines(one: Difference) -> list[str]:
    """Return a heading and the two sides, in diff's signs."""
    what = plain(one.what[:_SHOWN])
    sides = [
        _ABSENT if side is None else "empty" if not side else plain(side) for side in (one.first, one.second)
    ]
    return [f"{what}  ({one.note})" if one.note else what, f"< {sides[0]}", f"> {sides[1]}"]
