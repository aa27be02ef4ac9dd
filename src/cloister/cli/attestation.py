"""``cloister attestation``: what an enclave's signed statement says, and whether to believe it."""

import argparse
import json
import re
import sys
from base64 import b64decode
from binascii import Error as Base64Error
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cloister.attestation import (
    MAX_DOCUMENT,
    STEPS,
    Document,
    Expected,
    VerificationError,
    verify,
)
from cloister.errors import CloisterError
from cloister.pcrs import PCR_COUNT, PCR_SIZE, ZERO_PCR
from cloister.places import current_places
from cloister.trust import TrustMissingError, trusted_roots

HELP = "Attestation documents: verify one against a root of trust and the measurements you expect."

_MEANINGS = {
    0: "the whole image",
    1: "kernel and bootstrap",
    2: "application",
    3: "the host's role",
    4: "the host's instance id",
    8: "the image's signing certificate",
}
_MAX_TEXT = 4 * MAX_DOCUMENT  # bytes of a document written as hex or base64, with line breaks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs and their options."""
    verbs = parser.add_subparsers(dest="attestation_verb", metavar="VERB", required=True)
    verify_parser = verbs.add_parser(
        "verify",
        help="verify a document",
        description=f"Verify a document in {len(STEPS)} steps; exit 0, or 1 naming the one that failed.",
        allow_abbrev=False,
    )
    _add_verify_arguments(verify_parser)


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-verb."""
    return {"verify": _verify}[args.attestation_verb](args)


def _add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "document", metavar="DOC", help="file with the document (raw, base64 or hex); - is stdin"
    )
    parser.add_argument(
        "--root", metavar="PEM", type=Path, help="trusted root certificates (default: this host's own root)"
    )
    expectation = parser.add_mutually_exclusive_group(required=True)
    expectation.add_argument(
        "--pcr",
        metavar="N=HEX",
        type=_pcr,
        action="append",
        help="a PCR the document must show; may be repeated",
    )
    expectation.add_argument("--any-pcrs", action="store_true", help="accept any measurements")
    clock = parser.add_mutually_exclusive_group()
    clock.add_argument(
        "--at", metavar="TIME", type=_time, help="verify at this time (ISO 8601; default: now)"
    )
    clock.add_argument(
        "--at-document-time",
        action="store_true",
        help="verify at the document's own time: proves no freshness",
    )
    parser.add_argument("--nonce", metavar="HEX", type=_hex, help="the nonce the document must show")
    parser.add_argument("--user-data", metavar="HEX", type=_hex, help="the user data the document must show")
    parser.add_argument(
        "--public-key", metavar="HEX", type=_hex, help="the public key the document must show"
    )
    parser.add_argument(
        "--max-age", metavar="SECONDS", type=_seconds, help="refuse documents further from the time than this"
    )
    parser.add_argument("--allow-debug", action="store_true", help="accept enclaves in debug mode")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(usage_error=parser.error)


def _pcr(text: str) -> tuple[int, bytes]:
    match = re.fullmatch(r"(?:PCR)?([0-9]{1,2})=(?:0x)?([0-9A-Fa-f]*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number, '=' and hexadecimal digits")
    if int(match[1]) >= PCR_COUNT:
        raise argparse.ArgumentTypeError(f"there is no PCR{match[1]}: registers are 0 to {PCR_COUNT - 1}")
    if len(match[2]) != 2 * PCR_SIZE:
        raise argparse.ArgumentTypeError(
            f"PCR{match[1]} has {2 * PCR_SIZE} hexadecimal digits, and {len(match[2])} were given"
        )
    return int(match[1]), bytes.fromhex(match[2])


def _hex(text: str) -> bytes:
    if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not an even number of hexadecimal digits")
    return bytes.fromhex(text)


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 2026-11-23T12:00:00Z") from None


def _seconds(text: str) -> timedelta:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return timedelta(seconds=int(text))


def _verify(args: argparse.Namespace) -> int:
    expected = _expected_pcrs(args)
    if args.max_age is not None and args.at_document_time:
        args.usage_error("--max-age needs a time to compare with, so it cannot go with --at-document-time")
    document = _read_document(args.document)
    roots = _read_roots(args.root)
    now = None if args.at_document_time else args.at or datetime.now(UTC)
    try:
        content = verify(
            document,
            roots=roots,
            now=now,
            expect=Expected(
                pcrs=expected,
                any_pcrs=args.any_pcrs,
                nonce=args.nonce,
                user_data=args.user_data,
                public_key=args.public_key,
                max_age=args.max_age,
                allow_debug=args.allow_debug,
            ),
        )
    except VerificationError as error:
        if not args.json:
            raise
        print(json.dumps({"Verified": False, "Step": error.step, "Name": error.name, "Reason": error.reason}))
        return 1
    print(json.dumps(_as_json(content), indent=2) if args.json else _summary(content, now))
    return 0


def _expected_pcrs(args: argparse.Namespace) -> dict[int, bytes] | None:
    expected: dict[int, bytes] = {}
    for index, value in args.pcr or ():
        if expected.setdefault(index, value) != value:
            args.usage_error(f"argument --pcr: PCR{index} is given twice with different values")
    return expected or None


def _read_document(name: str) -> bytes:
    """Read a document in any of its three forms; genuine ones begin with 84, or d2 84 when tagged."""
    try:
        if name == "-":
            content = sys.stdin.buffer.read(_MAX_TEXT + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_MAX_TEXT + 1)
    except OSError as error:
        raise CloisterError(f"the document '{name}' cannot be read: {error.strerror}") from error
    if len(content) > _MAX_TEXT:
        raise CloisterError(f"'{name}' is larger than any attestation document ({_MAX_TEXT} bytes)")
    if not content.isascii():
        return content
    text = b"".join(content.split())
    if re.fullmatch(rb"(?:[0-9A-Fa-f]{2})+", text):
        return bytes.fromhex(text.decode())
    try:
        return b64decode(
            text + b"=" * (-len(text) % 4),
            altchars=b"-_" if re.search(rb"[-_]", text) else None,
            validate=True,
        )
    except Base64Error:
        raise CloisterError(f"'{name}' holds neither a raw document nor one in base64 or hex") from None


def _read_roots(path: Path | None) -> list[x509.Certificate]:
    if path is None:
        try:
            return list(trusted_roots(current_places().pki, datetime.now(UTC)))
        except TrustMissingError:
            raise CloisterError(
                "this host has no root of trust of its own: name one with --root, or run 'cloister setup'"
            ) from None
    try:
        with path.open("rb") as file:
            return x509.load_pem_x509_certificates(file.read(_MAX_TEXT))
    except OSError as error:
        raise CloisterError(f"the root certificate '{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CloisterError(f"'{path}' does not hold certificates in PEM form") from error


def _as_json(content: Document) -> dict[str, Any]:
    def hexed(value: bytes | None) -> str | None:
        return None if value is None else value.hex()

    return {
        "Verified": True,
        "ModuleId": content.module_id,
        "Platform": "NitroTPM" if content.nitrotpm else "NitroEnclave",
        "Timestamp": content.time.isoformat(),
        "Debug": content.debug,
        "PCRs": {f"PCR{index}": value.hex() for index, value in sorted(content.pcrs.items())},
        "PublicKey": hexed(content.public_key),
        "UserData": hexed(content.user_data),
        "Nonce": hexed(content.nonce),
        "Signers": [
            {
                "Subject": _plain(certificate.subject.rfc4514_string()),
                "NotBefore": certificate.not_valid_before_utc.isoformat(),
                "NotAfter": certificate.not_valid_after_utc.isoformat(),
                "Fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
            }
            for certificate in _chain(content)
        ],
    }


def _summary(content: Document, now: datetime | None) -> str:
    age = (
        f"{now - content.time} before the time of verification"
        if now
        else "taken as the time of verification"
    )
    lines = [
        f"verified: all {len(STEPS)} steps",
        f"module      {content.module_id}" + (" (NitroTPM)" if content.nitrotpm else ""),
        f"time        {content.time:%Y-%m-%d %H:%M:%S.%f} UTC, {age}",
    ]
    if content.debug:
        lines.append(
            "WARNING     debug mode: the parent reads this enclave's console, and its image is not measured"
        )
    for index, value in sorted(content.pcrs.items()):
        if value != ZERO_PCR:
            meaning = "" if content.nitrotpm else _MEANINGS.get(index, "")
            lines.append(f"PCR{index:<9}{value.hex()}" + (f"  {meaning}" if meaning else ""))
    zero = [str(index) for index, value in sorted(content.pcrs.items()) if value == ZERO_PCR]
    if zero:
        lines.append(f"zero        PCR {', '.join(zero)}")
    for name in ("nonce", "user_data", "public_key"):
        value = getattr(content, name)
        if value is not None:
            lines.append(f"{name:<12}{value.hex() or 'empty'}" + (f" ({len(value)} bytes)" if value else ""))
    for depth, certificate in enumerate(_chain(content)):
        label = "signers     " if depth == 0 else " " * 12
        ends = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S}"
        lines.append(f"{label}{'  ' * depth}{_common_name(certificate)} (until {ends} UTC)")
    root = _chain(content)[0].fingerprint(hashes.SHA256()).hex()
    lines.append(f"root        SHA-256 {root}")
    return "\n".join(lines)


def _chain(content: Document) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(der) for der in (*content.cabundle, content.certificate)]


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return _plain(str(names[0].value) if names else certificate.subject.rfc4514_string())


def _plain(text: str) -> str:
    """Keep a certificate's text from moving the reader's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
