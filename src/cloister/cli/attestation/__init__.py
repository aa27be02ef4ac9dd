"""``cloister attestation``: what an enclave's signed statement says, and whether to believe it."""

import argparse
import json
import sys
from contextlib import suppress
from types import ModuleType
from typing import Final

from cloister.attestation import VerificationError
from cloister.cli.attestation import diff, request, show, verify
from cloister.cli.attestation.dissection import UndecodableError
from cloister.cli.attestation.expectations import advice
from cloister.cli.attestation.report import refusal_json, trouble_json
from cloister.cli.options import add_sub_verbs
from cloister.cli.streams import tell_failure
from cloister.cli.table import plain
from cloister.errors import CloisterError

HELP = """Attestation documents: what an enclave says of itself, signed.

  cloister attestation request hello --image hello.eif      ask a running enclave, and verify its answer
  cloister attestation verify DOC --image hello.eif         verify a document you were given
  cloister attestation show DOC                             read one without believing it
  cloister attestation diff DOC DOC                         how two differ"""

REFUSED: Final = 1
TROUBLE: Final = 2
"""Wrong usage, as argparse has it, or a file, an enclave or a server that cannot be asked."""
_VERBS: Final[dict[str, ModuleType]] = {"verify": verify, "show": show, "diff": diff, "request": request}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs and their options."""
    add_sub_verbs(parser, "attestation_verb", _VERBS)


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-verb: 1 is what it found out about a document, 2 that it could not look."""
    code: int
    try:
        code = _VERBS[args.attestation_verb].run(args)
    except VerificationError as error:
        if args.json:
            print(json.dumps(refusal_json(error)))
        else:
            _tell(error.message + advice(error, args))
        return REFUSED
    except CloisterError as error:
        if args.json:
            print(json.dumps(trouble_json(error.message)))
        _tell(error.message)
        undecodable = isinstance(error, UndecodableError) and args.attestation_verb == "show"
        return REFUSED if undecodable else TROUBLE
    except BrokenPipeError:
        raise
    except OSError as error:
        if args.json and error.filename is not None:  # standard output itself did not fail
            print(json.dumps(trouble_json(f"{plain(str(error.filename))}: {error.strerror}")))
        tell_failure("cloister", error)
        return TROUBLE
    return code


def _tell(what: str) -> None:
    with suppress(OSError):
        print(f"cloister: {what}", file=sys.stderr, flush=True)
