"""``cloister image ls``: the files in an image's ramdisks, as they stand there."""

import argparse
import json
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cloister.audit import normal_name, shown_name
from cloister.cli.image.build import terminable
from cloister.cli.image.reading import expand_ramdisk, map_told_image
from cloister.cli.options import FILES
from cloister.cpio import CpioEntry, CpioError, Expand, read_files
from cloister.errors import CloisterError

SUMMARY: Final = "list the files in an image"
DESCRIPTION: Final = r"""List the files in an image's ramdisks, in their order.

  cloister image ls hello.eif              everything: names as they are in the ramdisks
  cloister image ls hello.eif /etc         what the program sees there: names below rootfs/
  cloister image ls hello.eif rootfs/etc   the same

Compressed ramdisks are unpacked in $TMPDIR first, in a file without a name; offsets count what they
unpack to. Exit 1 when a ramdisk breaks off, after what could be read of it.
Columns: ramdisk, mode, links, owner, size (or the device's numbers), time, name.
A backslash in a name is shown as \\, and a byte that is no printable text as \xNN."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", metavar="FILE", type=Path).complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument("path", metavar="PATH", nargs="?", help="only this, and what is below it")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print one entry a line; raises CloisterError for what is not there or cannot be read."""
    image, found = map_told_image(args.file), False
    wanted, trouble = None if args.path is None else _wanted(args.path), None
    with terminable():
        try:
            for number, entry in _entries(image.ramdisks, wanted, expand_ramdisk):
                if args.json:
                    print("," if found else "[", json.dumps(_json(number, entry)), sep="\n" if found else "")
                else:
                    print(_line(number, entry))
                found = True
        except CloisterError as error:
            trouble = error
    if wanted is not None and not found and trouble is None:
        raise CloisterError(f"There is no {args.path} in {args.file}.")
    if args.json:  # whole, whatever breaks the list off
        print("]" if found else "[]", flush=True)
    if trouble is not None:
        raise trouble
    return 0


def _wanted(path: str) -> bytes:
    """Return the name to look for; a path from the root is one the enclave's program would use."""
    name = normal_name(path.encode("utf-8", "surrogateescape"))
    return b"/".join(filter(None, (b"rootfs", name))) if path.startswith("/") else name


def _entries(
    ramdisks: tuple[memoryview, ...], wanted: bytes | None, expand: Expand
) -> Iterator[tuple[int, CpioEntry]]:
    for number, ramdisk in enumerate(ramdisks, 1):
        for entry in _entries_of(number, ramdisk, expand):
            if wanted is None or normal_name(entry.name) == wanted or _below(entry.name, wanted):
                yield number, entry


def _entries_of(number: int, ramdisk: memoryview, expand: Expand) -> Iterator[CpioEntry]:
    try:
        yield from read_files(expand(ramdisk))
    except CpioError as error:
        raise CpioError(f"Ramdisk {number} cannot be read further. {error.message}", error.offset) from error


def _below(name: bytes, directory: bytes) -> bool:
    return not directory or normal_name(name).startswith(directory + b"/")


def _line(number: int, entry: CpioEntry) -> str:
    device = entry.kind in (stat.S_IFCHR, stat.S_IFBLK)
    size = f"{entry.node[0]}, {entry.node[1]}" if device else f"{len(entry.content)}"
    time = datetime.fromtimestamp(entry.mtime, UTC)
    arrow = f" -> {shown_name(entry.target)}" if entry.kind == stat.S_IFLNK else ""
    return (
        f"{number} {stat.filemode(entry.mode)} {entry.links:>3} {f'{entry.uid}:{entry.gid}':<9} {size:>10} "
        f"{time:%Y-%m-%d %H:%M} {shown_name(entry.name)}{arrow}"
    )


def _json(number: int, entry: CpioEntry) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "Ramdisk": number,
        "Name": shown_name(entry.name),
        "Mode": f"{entry.mode:06o}",
        "Links": entry.links,
        "Uid": entry.uid,
        "Gid": entry.gid,
        "Size": len(entry.content),
        "Time": entry.mtime,
        "Inode": entry.inode,
        "Offset": entry.offset,
    }
    if entry.kind == stat.S_IFLNK:
        shown["Target"] = shown_name(entry.target)
    if entry.kind in (stat.S_IFCHR, stat.S_IFBLK):
        shown["Device"] = list(entry.node)
    return shown
