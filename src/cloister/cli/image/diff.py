"""``cloister image diff``: which registers of two images differ, and because of what."""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from cloister.audit import Difference, compare
from cloister.cli.image.build import terminable
from cloister.cli.image.reading import expand_ramdisk, measure_told_image, tell_trouble
from cloister.cli.image_progress import shown_progress
from cloister.cli.options import FILES
from cloister.cli.table import print_table
from cloister.eif import Image
from cloister.errors import CloisterError
from cloister.measure import Measurements

SUMMARY: Final = "say which registers of two images differ, and why"
DESCRIPTION: Final = """Say which registers of two images differ, and because of which file and attribute.

  cloister image diff old.eif new.eif

What changes no register is told too, as 'not measured'. Compressed ramdisks are unpacked in $TMPDIR first,
in a file without a name. Exit 0 when the images are the same in everything,
1 when they differ, 2 when one cannot be read."""
_LONGEST: Final = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    for name in ("first", "second"):
        parser.add_argument(name, metavar="FILE", type=Path).complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_limit,
        default=20,
        help="names told in each ramdisk (default 20, at most 1000)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    try:
        with terminable():
            with shown_progress() as progress:
                both = [measure_told_image(path, progress) for path in (args.first, args.second)]
            images, measured = [image for image, _ in both], [registers for _, registers in both]
            differences = list(compare(*images, limit=args.limit, expand=expand_ramdisk))
    except CloisterError as error:
        return tell_trouble(error)
    if args.json:
        print(json.dumps(comparison_json(measured, differences), indent=2))
    else:
        print_comparison(images, measured, differences)
    return int(bool(differences))


def comparison_json(measured: list[Measurements], differences: Iterable[Difference]) -> dict[str, Any]:
    """Return both images' registers and what differs."""
    return {
        "Registers": {
            f"PCR{index}": {"First": first, "Second": second, "Same": first == second}
            for index, first, second in _registers(measured)
        },
        "Differences": [difference.to_json() for difference in differences],
    }


def print_comparison(
    images: list[Image], measured: list[Measurements], differences: list[Difference]
) -> None:
    """Print the registers, and then what differs."""
    for index, first, second in _registers(measured):
        print(f"PCR{index}  " + ("same" if first == second else "DIFFERENT"))
    if not differences:
        print(f"The images are the same, {images[0].size:,} bytes.")
        return
    print_table(
        ["CHANGES", "WHERE", "ATTRIBUTE", "FIRST", "SECOND"],
        [
            [
                " ".join(f"PCR{index}" for index in difference.registers) or "not measured",
                difference.where,
                difference.attribute,
                _shown(difference.first),
                _shown(difference.second),
            ]
            for difference in differences
        ],
    )


def _registers(measured: list[Measurements]) -> list[tuple[int, str | None, str | None]]:
    sides = [{index: value.hex() for index, value in one.registers().items()} for one in measured]
    return [
        (index, sides[0].get(index), sides[1].get(index))
        for index in sorted(sides[0].keys() | sides[1].keys())
    ]


def _shown(value: Any) -> str:
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 1000 and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"'{text[:50]}' is not a number from 1 to 1000")
    return int(text)
