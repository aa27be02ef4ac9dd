"""``cloister image describe``: what an image holds and measures."""

import argparse
import json
from pathlib import Path
from typing import Final

from cloister.cli.image.reading import measure_told_image
from cloister.cli.image_progress import shown_progress
from cloister.cli.nitro.describe_eif import describe
from cloister.cli.options import FILES
from cloister.cli.table import plain
from cloister.measure import Measurements

SUMMARY: Final = "say what an image holds and measures"
DESCRIPTION: Final = """Say what an image holds and measures.

  cloister image describe hello.eif"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", metavar="FILE", type=Path).complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the description."""
    with shown_progress() as progress:
        image, measurements = measure_told_image(args.file, progress)
    shown = describe(image, measurements)
    if args.json:
        shown["Architecture"] = image.architecture
        shown["Size"] = image.size
        shown["Sections"] = [
            {"Type": section.kind.name.lower(), "Size": len(section.payload)} for section in image.sections
        ]
        shown["KitDigest"] = image.metadata and image.metadata.kit_digest
        print(json.dumps(shown, indent=2))
        return 0
    print(f"{args.file}  {image.size:,} bytes, {image.architecture}")
    for section in image.sections:
        print(f"  {section.kind.name.lower():<10}{len(section.payload):>14,} bytes")
    print_registers(measurements)
    _line("Command line", image.cmdline)
    if image.metadata is not None:
        build = image.metadata.build
        _line("Name", f"{image.metadata.image_name}, version {image.metadata.image_version}")
        _line("Built", f"{build.build_time} by {build.build_tool} {build.build_tool_version}")
        _line("Kernel", f"{build.operating_system} {build.kernel_version}")
        _line("Guest kit", image.metadata.kit_digest or "unknown")
    if image.signature is None:
        _line("Signature", "none")
    else:
        verdict = "good" if shown["SignatureCheck"] else "made for another image"
        _line("Signature", f"{verdict}, by {image.signature.certificate.subject.rfc4514_string()}")
    return 0


def _line(label: str, text: str) -> None:
    """Print one line; the text is an image's own."""
    print(f"{label:<14}{plain(text)}")


def print_registers(measurements: Measurements) -> None:
    """Print one register a line."""
    for index, value in measurements.registers().items():
        print(f"PCR{index}  {value.hex()}")
