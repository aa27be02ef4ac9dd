"""``cloister image unpack``: an image's sections and files, laid out in a directory."""

import argparse
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cloister.build import BuildError
from cloister.cli.image.build import terminable
from cloister.cli.image.extraction import Extraction
from cloister.cli.image.reading import expand_ramdisk, map_told_image
from cloister.cli.options import FILES
from cloister.cli.table import plain
from cloister.eif import Image, SectionType
from cloister.mapped import pieces

SUMMARY: Final = "write an image's sections and files to a directory"
DESCRIPTION: Final = """Write an image's sections and files to a directory that is new or empty.

  cloister image unpack hello.eif hello

  hello/sections/1-kernel ...   each section's bytes
  hello/root/                   the ramdisks' files, unpacked over each other as the kernel does;
                                hello/root/rootfs is what the program sees as /

Sections are written as they are; compressed ramdisks are unpacked in $TMPDIR for their files.
Nothing is written outside the directory, whatever names and links an image holds. Files belong to you,
without setuid and setgid bits. Device nodes are left out unless root asks for them with --devices.
Exit 0, or 1 when an entry could not be unpacked: each is named on standard error."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", metavar="FILE", type=Path).complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("--devices", action="store_true", help="make device nodes too (root only)")


def run(args: argparse.Namespace) -> int:
    """Unpack, and say what was left out."""
    if args.devices and os.geteuid() != 0:
        raise BuildError("Only root can make device nodes; leave --devices out.")
    image = map_told_image(args.file)
    with terminable(), _new_directory(args.directory) as directory:
        _write_sections(image, directory / "sections")
        root = directory / "root"
        root.mkdir()
        with Extraction(root, devices=args.devices) as extraction:
            for number, ramdisk in enumerate(image.ramdisks, 1):
                extraction.unpack(f"ramdisk {number}", ramdisk, expand_ramdisk)
    for complaint in extraction.complaints:
        print(f"cloister: {plain(complaint)}", file=sys.stderr)
    if more := extraction.refused - len(extraction.complaints):
        print(f"cloister: {more} more entries were left out.", file=sys.stderr)
    devices = f", {extraction.devices_left_out} device nodes left out" if extraction.devices_left_out else ""
    print(f"{args.directory}  {len(image.sections)} sections, {extraction.count} entries{devices}")
    return int(bool(extraction.refused))


@contextmanager
def _new_directory(target: Path) -> Iterator[Path]:
    """Fill a directory beside the target and rename it at the end; a failure leaves nothing."""
    target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would follow a link
    try:
        if target.is_symlink() or (target.exists() and any(target.iterdir())):
            raise BuildError(f"{target} is not an empty directory; nothing is unpacked into it.")
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        temporary.mkdir()
    except OSError as error:
        raise BuildError(f"{target} cannot be made: {error.strerror}.") from error
    try:
        yield temporary
        if target.exists():  # somebody may stand in it
            for part in sorted(temporary.iterdir()):
                part.replace(target / part.name)
        else:
            temporary.replace(target)
    except OSError as error:
        raise BuildError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_sections(image: Image, directory: Path) -> None:
    directory.mkdir()
    endings = {SectionType.METADATA: ".json", SectionType.RAMDISK: ".cpio", SectionType.SIGNATURE: ".cbor"}
    for number, section in enumerate(image.sections, 1):
        name = f"{number}-{section.kind.name.lower()}{endings.get(section.kind, '')}"
        with (directory / name).open("xb") as out:
            for piece in pieces(section.payload):
                out.write(piece)
    if image.signature is not None:
        (directory / "certificate.pem").write_bytes(image.signature.certificate_pem)
