"""``cloister attestation``: what an enclave's signed statement says, and whether to believe it."""

import argparse
from types import ModuleType
from typing import Final

from cloister.cli.attestation import diff, request, show, verify

HELP = """Attestation documents: what an enclave says of itself, signed.

  cloister attestation request hello --image hello.eif      ask a running enclave, and verify its answer
  cloister attestation verify DOC --image hello.eif         verify a document you were given
  cloister attestation show DOC                             read one without believing it
  cloister attestation diff DOC DOC                         how two differ"""

_VERBS: Final[dict[str, ModuleType]] = {"verify": verify, "show": show, "diff": diff, "request": request}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs and their options."""
    verbs = parser.add_subparsers(dest="attestation_verb", metavar="VERB", required=True)
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
    code: int = _VERBS[args.attestation_verb].run(args)
    return code
