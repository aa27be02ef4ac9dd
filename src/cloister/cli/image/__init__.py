"""``cloister image``: enclave images built, described and examined; one verb a file."""

import argparse
from types import ModuleType
from typing import Final

from cloister.cli.image import build, describe, diff, lint, ls, policy, unpack, verify
from cloister.cli.image.build import (
    add_signing_arguments,
    given_text,
    load_custom_metadata,
    load_signer,
    parse_command,
    terminable,
)
from cloister.cli.options import add_sub_verbs

__all__ = [
    "HELP",
    "add_arguments",
    "add_signing_arguments",
    "given_text",
    "load_custom_metadata",
    "load_signer",
    "parse_command",
    "run",
    "terminable",
]

HELP = """Build, describe and examine enclave images.

  cloister image build SOURCE -o hello.eif
  cloister image describe hello.eif             what it holds and measures
  cloister image lint hello.eif                 what is ambiguous or dangerous in it
  cloister image diff old.eif new.eif           which registers differ, and because of which file
  cloister image ls hello.eif /etc              its files
  cloister image unpack hello.eif hello         its sections and files in a directory
  cloister image verify hello.eif --rebuild S   does it come from this source?
  cloister image policy hello.eif               a KMS key-policy statement for it"""

_VERBS: Final[dict[str, ModuleType]] = {
    "build": build,
    "describe": describe,
    "lint": lint,
    "diff": diff,
    "ls": ls,
    "unpack": unpack,
    "verify": verify,
    "policy": policy,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs and their options."""
    add_sub_verbs(parser, "image_verb", _VERBS)


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-verb."""
    code: int = _VERBS[args.image_verb].run(args)
    return code
