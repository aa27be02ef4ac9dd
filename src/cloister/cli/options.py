"""Values of options that more than one verb has."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

MAX_SECONDS: Final = 10_000_000.0
"""A third of a year; timers take no more than years."""


FILES: Final = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""What an argument that names a file has as ``complete`` (shtab's FILE, without loading it)."""


def add_sub_verbs(parser: argparse.ArgumentParser, dest: str, modules: Mapping[str, ModuleType]) -> None:
    """Declare a verb's sub-verbs, one module each: its SUMMARY, DESCRIPTION and ``add_arguments``."""
    verbs = parser.add_subparsers(dest=dest, metavar="VERB", required=True)
    for name, module in modules.items():
        module.add_arguments(
            verbs.add_parser(
                name,
                help=module.SUMMARY,
                description=module.DESCRIPTION,
                allow_abbrev=False,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )


def name_argument(text: str) -> str:
    """Read a name of something, for argparse; an empty one, as of an unset variable, names nothing."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, and a name was expected")
    return text


def path_argument(text: str) -> Path:
    """Read a file's name, for argparse; an empty one would mean the current directory."""
    return Path(name_argument(text))


def seconds(text: str) -> float:
    """Read a number of seconds above 0, for argparse."""
    if (
        re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII) is None
        or not 0 < float(text) <= MAX_SECONDS
    ):
        raise argparse.ArgumentTypeError(
            f"'{text[:50]}' is not a number of seconds above 0, at most {MAX_SECONDS:.0f}"
        )
    return float(text)
