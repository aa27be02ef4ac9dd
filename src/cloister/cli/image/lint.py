"""``cloister image lint``: what is ambiguous or dangerous in an image, and what to do about it."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cloister.audit import CODES, Finding, Findings, Severity, lint
from cloister.cli.image.build import terminable
from cloister.cli.image.reading import expand_ramdisk, map_file, tell_trouble
from cloister.cli.image_progress import shown_progress
from cloister.cli.options import FILES
from cloister.cli.table import plain, print_table
from cloister.errors import CloisterError

SUMMARY: Final = "find what is ambiguous or dangerous in an image"
DESCRIPTION: Final = """Find what is ambiguous or dangerous in an image, also in one that readers refuse.

  cloister image lint hello.eif
  cloister image lint hello.eif --fail-on warning --ignore L501:rootfs/usr/bin/su

Compressed ramdisks are unpacked in $TMPDIR first, in a file without a name.
Exit 0 when nothing was found that --fail-on names (default: error), 1 otherwise, 2 when the file cannot be
read.
docs/reference/lint-codes.md explains every code."""
_LEVELS: Final = {"warning": Severity.WARNING, "error": Severity.ERROR}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", metavar="FILE", type=Path).complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument(
        "--fail-on",
        choices=["warning", "error", "never"],
        default="error",
        help="exit 1 from this severity on",
    )
    parser.add_argument(
        "--ignore",
        metavar="CODE[:PATTERN]",
        type=_rule,
        action="append",
        default=[],
        help="leave out a code, or a code for the files of a ramdisk that fit a pattern; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Judge the image and print the findings."""
    try:
        view = map_file(args.file)
        with terminable(), shown_progress() as progress:
            findings = lint(
                view, datetime.now(UTC), ignore=args.ignore, progress=progress, expand=expand_ramdisk
            )
    except CloisterError as error:
        return tell_trouble(error)
    if args.json:
        shown = {"Findings": [finding.to_json() for finding in findings.ordered()]}
        print(json.dumps(shown | {"NotShown": findings.not_shown()}, indent=2))
    else:
        _print(findings)
    worst, level = findings.worst, _LEVELS.get(args.fail_on)
    return int(level is not None and worst is not None and worst >= level)


def _rule(text: str) -> str:
    code = text.partition(":")[0]
    if code not in CODES:
        raise argparse.ArgumentTypeError(f"'{text[:50]}' does not start with a code such as L501")
    return text


def _print(findings: Findings) -> None:
    found = findings.ordered()
    print_table(["CODE", "SEVERITY", "WHERE", "FINDING"], [_row(finding) for finding in found])
    for code, more in findings.not_shown().items():
        print(f"{code}: {more} more")
    if found:
        print("\nWhat to do:")
    for code in dict.fromkeys(finding.code for finding in found):
        print(f"  {code}  {plain(CODES[code].meaning)}\n        {plain(CODES[code].fix)}")


def _row(finding: Finding) -> list[str]:
    return [finding.code, finding.severity.name.lower(), finding.where, finding.message]
