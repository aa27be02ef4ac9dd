"""``cloister attestation verify``: believe a document or refuse it, and say why."""

import argparse
import json
from datetime import UTC, datetime
from typing import Final

from cloister.attestation import STEPS, verify
from cloister.cli.attestation.expectations import (
    add_expectation_arguments,
    hold_expectations,
    read_roots,
    seconds_argument,
    time_argument,
)
from cloister.cli.attestation.report import verified_json, verified_lines
from cloister.cli.attestation.sources import FORMS, read_document
from cloister.cli.options import FILES, name_argument

SUMMARY: Final = "verify a document against a root and what you expect"
DESCRIPTION: Final = f"""Verify a document in {len(STEPS)} steps (docs/reference/verification-steps.md).

  cloister attestation verify hello.cose --image hello.eif --nonce 5f1d...
  cloister attestation verify https://example.com/document --root root.pem --pcr 0=2c5e...
  cloister attestation verify - --root AWS_NitroEnclaves_Root-G1.pem --signer release.pem --max-age 60

Without --max-age and --nonce a document passes during its signing certificate's life, up to three hours.
Exit 0 when it is verified, 1 when a step refused it, 2 for wrong usage and for what could not be read or
fetched. With --json there is an object on standard output in all cases but wrong usage: Verified is true,
false, or null when nothing could be verified.

{FORMS}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "document", metavar="DOC", type=name_argument, help="file, -, URL, hex:... or base64:..."
    ).complete = FILES  # type: ignore[attr-defined] # shtab's way
    add_expectation_arguments(parser)
    clock = parser.add_mutually_exclusive_group()
    clock.add_argument(
        "--at",
        metavar="TIME",
        type=time_argument,
        help="verify at this time (ISO 8601, UTC unless it names a zone; default: now)",
    )
    clock.add_argument(
        "--at-document-time",
        action="store_true",
        help="verify at the document's own time: proves no freshness",
    )
    parser.add_argument(
        "--max-age",
        metavar="SECONDS",
        type=seconds_argument,
        help="refuse documents further from the time than this; a whole number (default: any age)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, also of a refusal")


def run(args: argparse.Namespace) -> int:
    """Verify and print what the document says."""
    if args.max_age is not None and args.at_document_time:
        args.usage_error("--max-age needs a time to compare with, so it cannot go with --at-document-time")
    expect = hold_expectations(args, nonce=args.nonce, max_age=args.max_age)
    document = read_document(args.document)
    roots = read_roots(args.root)
    now = None if args.at_document_time else args.at or datetime.now(UTC)
    content = verify(document, roots=roots, now=now, expect=expect)
    if args.json:
        print(json.dumps(verified_json(content, expect), indent=2))
    else:
        print("\n".join(verified_lines(content, now, expect)))
    return 0
