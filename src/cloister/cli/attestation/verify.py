"""``cloister attestation verify``: believe a document or refuse it, and say why."""

import argparse
import json
from datetime import UTC, datetime
from typing import Final

from cloister.attestation import STEPS, VerificationError, verify
from cloister.cli.attestation.expectations import (
    add_expectation_arguments,
    hold_expectations,
    read_roots,
    seconds_argument,
    time_argument,
)
from cloister.cli.attestation.report import refusal_json, verified_json, verified_lines
from cloister.cli.attestation.sources import FORMS, read_document
from cloister.cli.options import FILES

SUMMARY: Final = "verify a document against a root and what you expect"
DESCRIPTION: Final = f"""Verify a document in {len(STEPS)} steps: exit 0, or 1 with the step that refused it.

  cloister attestation verify hello.cose --image hello.eif --nonce 5f1d...
  cloister attestation verify https://example.com/document --root root.pem --pcr 0=2c5e...
  cloister attestation verify - --root AWS_NitroEnclaves_Root-G1.pem --signer release.pem --max-age 60

{FORMS}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "document", metavar="DOC", help="file, -, URL, hex:... or base64:..."
    ).complete = FILES  # type: ignore[attr-defined] # shtab's way
    add_expectation_arguments(parser)
    clock = parser.add_mutually_exclusive_group()
    clock.add_argument(
        "--at", metavar="TIME", type=time_argument, help="verify at this time (ISO 8601; default: now)"
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
        help="refuse documents further from the time than this",
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
    try:
        content = verify(document, roots=roots, now=now, expect=expect)
    except VerificationError as error:
        if not args.json:
            raise
        print(json.dumps(refusal_json(error)))
        return 1
    print(
        json.dumps(verified_json(content), indent=2) if args.json else "\n".join(verified_lines(content, now))
    )
    return 0
