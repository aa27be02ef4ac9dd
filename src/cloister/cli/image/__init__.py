"""``cloister image``: enclave images built, described and examined; one verb a file."""

import argparse
from types import ModuleType
from typing import Final

from cloister.cli.image import build, describe
from cloister.cli.image.build import (
    add_signing_arguments,
    load_custom_metadata,
    load_signer,
    parse_command,
    shown_progress,
    terminable,
)

__all__ = [
    "HELP",
    "add_arguments",
    "add_signing_arguments",
    "load_custom_metadata",
    "load_signer",
    "parse_command",
    "run",
    "shown_progress",
    "terminable",
]

HELP = """Build, describe and examine enclave images.

  cloister image build SOURCE -o hello.eif
  cloister image describe hello.eif"""

_VERBS: Final[dict[str, ModuleType]] = {"build": build, "describe": describe}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs and their options."""
    verbs = parser.add_subparsers(dest="image_verb", metavar="VERB", required=True)
    for name, module in _VERBS.items():
        module.add_arguments(
            verbs.add_parser(
                name,
                help=module.SUMMARY,
                description=module.DESCRIPTION,
                allow_abbrev=False,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-verb."""
    code: int = _VERBS[args.image_verb].run(args)
    return code
