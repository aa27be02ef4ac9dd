"""``cloister attestation request``: ask a running enclave what it is, and believe only what verifies."""

import argparse
import json
import re
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cloister.attestation import verify
from cloister.cli.attestation.expectations import add_expectation_arguments, hold_expectations, read_roots
from cloister.cli.attestation.report import verified_json, verified_lines
from cloister.cli.options import FILES, name_argument, seconds
from cloister.control import Register
from cloister.errors import CloisterError
from cloister.places import current_places
from cloister.running import find_enclave
from cloister.sdk import ATTESTATION_PORT, NONCE_SIZES, ask_enclave
from cloister.transport import UnreachableError

SUMMARY: Final = "ask a running enclave for a document and verify it"
DESCRIPTION: Final = f"""Ask a running enclave for a document with a fresh nonce, and verify it at once.

  cloister attestation request hello --image hello.eif
  cloister attestation request 16 --pcr 0=2c5e... --output hello.cose
  cloister attestation request hello --any-pcrs --nonce 5f1d... --output - | ssh verifier ...

The program in the enclave must answer, as examples/hello does and cloister.sdk.serve_attestation lets any do,
on vsock port {ATTESTATION_PORT}. What does not verify is never written.
Exit 0 when the answer is verified, 1 when a step refused it, 2 for wrong usage and for an enclave that could
not be asked. With --json there is an object on standard output in all cases but wrong usage: Verified is
true, false, or null when nothing could be verified."""
NONCE_BYTES: Final = 32
START_SECONDS: Final = 20.0
"""run-enclave returns at the enclave's heartbeat; its program starts a moment later."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("enclave", metavar="ENCLAVE", type=name_argument, help="its name, id or CID")
    add_expectation_arguments(
        parser,
        nonce_help=f"ask with this nonce, {NONCE_SIZES[0]} to {NONCE_SIZES[-1]} bytes "
        f"(default: {NONCE_BYTES} random ones)",
    )
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
        "-o",
        "--output",
        metavar="FILE",
        type=name_argument,
        help="write the verified document there, raw; - is standard output",
    ).complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument("--json", action="store_true", help="print JSON, also of a refusal")


def run(args: argparse.Namespace) -> int:
    """Ask, verify, and print what the document says or write the document."""
    if args.output == "-" and args.json:
        args.usage_error("argument --json: not allowed with --output -, which has standard output to itself")
    nonce = secrets.token_bytes(NONCE_BYTES) if args.nonce is None else args.nonce
    if len(nonce) not in NONCE_SIZES:
        args.usage_error(
            f"argument --nonce: an enclave is asked with {NONCE_SIZES[0]} to {NONCE_SIZES[-1]} bytes, "
            f"not {len(nonce)}"
        )
    expect = hold_expectations(args, nonce=nonce, max_age=None)
    roots = read_roots(args.root)
    document = _ask(find_cid(args.enclave), nonce, port=args.port, patience=args.wait)
    now = datetime.now(UTC)
    content = verify(document, roots=roots, now=now, expect=expect)
    if args.output == "-":
        print(f"nonce {nonce.hex()}", file=sys.stderr)
        sys.stdout.buffer.write(document)
        return 0
    if args.output is not None:
        Path(args.output).write_bytes(document)
    if args.json:
        print(json.dumps(verified_json(content, expect), indent=2))
    else:
        print("\n".join(verified_lines(content, now, expect)))
    return 0


def _ask(cid: int, nonce: bytes, *, port: int, patience: float) -> bytes:
    """Return an enclave's answer; where there is no enclave, or not for this user, say so."""
    try:
        return ask_enclave(cid, nonce, port=port, patience=patience)
    except UnreachableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CloisterError(f"no enclave with CID {cid} runs") from error
        if isinstance(error.__cause__, PermissionError):
            raise CloisterError(
                f"the enclave with CID {cid} may be asked only by the user who started it: permission denied"
            ) from error
        raise


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
