"""``cloister image verify``: prove that an image comes from a source, by building it again."""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from cloister.audit import compare
from cloister.build import map_image
from cloister.cli.image.build import add_recipe_arguments, build_from, terminable
from cloister.cli.image.describe import print_registers
from cloister.cli.image.diff import comparison_json, print_comparison
from cloister.cli.options import FILES
from cloister.cli.table import plain
from cloister.eif import Image
from cloister.kit import KitMissingError
from cloister.measure import measure

SUMMARY: Final = "prove that an image comes from a source, by building it again"
DESCRIPTION: Final = """Build an image again from its source and compare PCR0, PCR1 and PCR2.

  cloister image verify hello.eif --rebuild root --cmd /hello

Give the options that the image was built with. The guest kit is the one that the image's metadata names,
unless --kit or --arch says another. Metadata and signature are not measured and need not be equal.
Exit 0 when the registers are the same; 1 when they differ, with the reason as 'cloister image diff' tells
it, or when the source cannot be built. The second image needs its size in $TMPDIR while it is compared."""
_MEASURED: Final = (0, 1, 2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", metavar="FILE", type=Path).complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument(
        "--rebuild",
        dest="source",
        metavar="SOURCE",
        required=True,
        help="what it is said to come from, as for 'cloister image build'",
    )
    add_recipe_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Build, compare and print."""
    image = map_image(args.file)
    if args.kit is None and not args.arch:
        args.kit, args.arch = image.metadata and image.metadata.kit_digest, image.architecture
    with terminable(), tempfile.TemporaryDirectory(prefix="cloister-verify-") as scratch:
        output = Path(scratch) / "rebuilt.eif"
        _build(args, image, output)
        rebuilt = map_image(output)
        measured = [replace(measure(one), pcr8=None) for one in (image, rebuilt)]
        found = compare(image, rebuilt)
        differences = [one for one in found if any(index in _MEASURED for index in one.registers)]
    registers = [one.registers() for one in measured]
    same = all(registers[0][index] == registers[1][index] for index in _MEASURED)
    if args.json:
        print(json.dumps({"Verified": same, **comparison_json(measured, differences)}, indent=2))
    elif same:
        print(f"{args.file} comes from {args.source}: built again, PCR0, PCR1 and PCR2 are the same.")
        print_registers(measured[0])
    else:
        print(f"{args.file} does not come from {args.source} with these options; SECOND is what was built.")
        print_comparison([image, rebuilt], measured, differences)
    return int(not same)


def _build(args: argparse.Namespace, image: Image, output: Path) -> None:
    try:
        build_from(args, output)
    except KitMissingError as error:
        if image.metadata is None or args.kit != image.metadata.kit_digest:
            raise
        raise KitMissingError(
            f"The guest kit {plain(args.kit)[:80]} that the image's metadata names is not on this host; "
            "import it with 'cloister kit import', or name another with --kit."
        ) from error
