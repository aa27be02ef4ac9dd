"""``cloister image verify``: prove that an image comes from a source, by building it again."""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from cloister.audit import compare
from cloister.build import map_image, measure_image
from cloister.cli.image.build import add_recipe_arguments, build_from, terminable
from cloister.cli.image.describe import print_registers
from cloister.cli.image.diff import comparison_json, print_comparison
from cloister.cli.image_progress import shown_progress
from cloister.cli.options import FILES
from cloister.cli.table import plain
from cloister.eif import Image
from cloister.kit import KitMissingError
from cloister.measure import Measurements

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
    with shown_progress() as progress:
        image, registers = measure_image(args.file, progress=progress)
    if args.kit is None and not args.arch:
        args.kit, args.arch = image.metadata and image.metadata.kit_digest, image.architecture
    with terminable(), tempfile.TemporaryDirectory(prefix="cloister-verify-") as scratch:
        output = Path(scratch) / "rebuilt.eif"
        measured = [replace(registers, pcr8=None), _build(args, image, output)]
        same = measured[0] == measured[1]
        images = [image] if same else [image, map_image(output)]
        found = () if same else compare(*images)
        differences = [one for one in found if any(index in _MEASURED for index in one.registers)]
    if args.json:
        print(json.dumps({"Verified": same, **comparison_json(measured, differences)}, indent=2))
    elif same:
        print(f"{args.file} comes from {args.source}: built again, PCR0, PCR1 and PCR2 are the same.")
        print_registers(measured[0])
    else:
        print(f"{args.file} does not come from {args.source} with these options; SECOND is what was built.")
        print_comparison(images, measured, differences)
    return int(not same)


def _build(args: argparse.Namespace, image: Image, output: Path) -> Measurements:
    try:
        return build_from(args, output)
    except KitMissingError as error:
        if image.metadata is None or args.kit != image.metadata.kit_digest:
            raise
        raise KitMissingError(
            f"The guest kit {plain(args.kit)[:80]} that the image's metadata names is not on this host; "
            "import it with 'cloister kit import', or name another with --kit."
        ) from error
