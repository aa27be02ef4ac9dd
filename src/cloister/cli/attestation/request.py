"""``cloister attestation request``: ask a running enclave what it is, and believe only what verifies."""

import argparse
import json
import re
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cloister.attestation import VerificationError, verify
from cloister.cli.attestation.expectations import add_expectation_arguments, hold_expectations, read_roots
from cloister.cli.attestation.report import refusal_json, verified_json, verified_lines
from cloister.cli.options import FILES, seconds
from cloister.control import Register
from cloister.errors import CloisterError
from cloister.places import current_places
from cloister.running import find_enclave
from cloister.sdk import ATTESTATION_PORT, ask_enclave

SUMMARY: Final = "ask a running enclave for a document and verify it"
DESCRIPTION: Final = f"""Ask a running enclave for a document with a fresh nonce, and verify it at once.

  cloister attestation request hello --image hello.eif
  cloister attestation request 16 --pcr 0=2c5e... --output hello.cose
  cloister attestation request hello --any-pcrs --nonce 5f1d... --output - | ssh verifier ...

The program in the enclave must answer, as examples/hello does and cloister.sdk.serve_attestation lets any do,
on vsock port {ATTESTATION_PORT}. Exit 0, or 1 with what is wrong; what does not verify is never written."""
NONCE_BYTES: Final = 32
START_SECONDS: Final = 20.0
"""run-enclave returns at the enclave's heartbeat; its program starts a moment later."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("enclave", metavar="ENCLAVE", help="its name, id or CID")
    add_expectation_arguments(parser)
    parser.add_argument(
        "--port", metavar="N", type=_port, default=ATTESTATION_PORT, help=f"vsock port ({ATTESTATION_PORT})"
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        default=START_SECONDS,
        help=f"how long the enclave's program may take to listen ({START_SECONDS:g})",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the verified document there, raw; - is standard output"
    ).complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument("--json", action="store_true", help="print JSON, also of a refusal")


def run(args: argparse.Namespace) -> int:
    """Ask, verify, and print what the document says or write the document."""
    if args.output == "-" and args.json:
        args.usage_error("argument --json: not allowed with --output -, which has standard output to itself")
    nonce = secrets.token_bytes(NONCE_BYTES) if args.nonce is None else args.nonce
    expect = hold_expectations(args, nonce=nonce, max_age=None)
    roots = read_roots(args.root)
    document = ask_enclave(find_cid(args.enclave), nonce, port=args.port, patience=args.wait)
    now = datetime.now(UTC)
    try:
        content = verify(document, roots=roots, now=now, expect=expect)
    except VerificationError as error:
        if not args.json:
            raise
        print(json.dumps(refusal_json(error)))
        return 1
    if args.output == "-":
        print(f"nonce {nonce.hex()}", file=sys.stderr)
        sys.stdout.buffer.write(document)
        return 0
    if args.output is not None:
        Path(args.output).write_bytes(document)
    print(
        json.dumps(verified_json(content), indent=2) if args.json else "\n".join(verified_lines(content, now))
    )
    return 0


def find_cid(word: str) -> int:
    """Return the CID of a running enclave by its name, id or CID; raise CloisterError."""
    places = current_places()
    for entry in reversed(Register(places.run).live()):
        if word in {entry.enclave_id, entry.name}:
            return entry.cid
    if re.fullmatch(r"[0-9]{1,10}", word, re.ASCII):
        return int(word)
    enclave = find_enclave(places, word)  # raises when there never was one
    if enclave.entry is None:
        raise CloisterError(f"the enclave {enclave.name} ({enclave.enclave_id}) does not run any more")
    return enclave.entry.cid


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or not 0 < int(text) < (1 << 32) - 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a vsock port, 1 to {(1 << 32) - 2}")
    return int(text)
