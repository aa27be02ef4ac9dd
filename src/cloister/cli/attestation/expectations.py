"""What a verifier knows beforehand, as options: registers by value, image, signer or host; and the rest."""

import argparse
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.attestation import Expected, Revocation, VerificationError
from cloister.build import measure_image
from cloister.cli.attestation.sources import MAX_TEXT
from cloister.cli.options import FILES, path_argument
from cloister.cli.table import plain
from cloister.errors import CloisterError
from cloister.pcrs import PCR_COUNT, PCR_SIZE, ZERO_PCR, extend, measure_bytes
from cloister.pki import check_instance_id
from cloister.places import current_places
from cloister.trust import TrustMissingError, check_role_arn, trusted_roots

_MAX_CRL = 1 << 20  # bytes
_MEASURED = ("--pcr", "--image", "--signer", "--role-arn", "--instance-id", "--nitrotpm-pcr")


def add_expectation_arguments(
    parser: argparse.ArgumentParser, *, nonce_help: str = "the nonce the document must show"
) -> None:
    """Declare what the document must show, of which registers are mandatory."""
    registers = parser.add_argument_group(
        "expected measurements (at least one of these; they add up, and --any-pcrs stands alone)",
        "An enclave is its PCRs: a document with a good signature alone says only that some enclave made it.",
    )
    registers.add_argument(
        "--image", metavar="EIF", type=path_argument, help="PCR0, 1, 2 (and 8) as this image measures here"
    ).complete = FILES  # type: ignore[attr-defined] # shtab's way
    registers.add_argument(
        "--signer",
        metavar="PEM",
        type=path_argument,
        help="PCR8: any image signed with this certificate, old ones too",
    ).complete = FILES  # type: ignore[attr-defined]
    registers.add_argument("--pcr", metavar="N=HEX", type=_pcr, action="append", help="one PCR; repeatable")
    registers.add_argument("--role-arn", metavar="ARN", type=_role_arn, help="PCR3 of hosts with this role")
    registers.add_argument(
        "--instance-id", metavar="ID", type=_instance_id, help="PCR4 of the host with this instance id"
    )
    registers.add_argument(
        "--nitrotpm-pcr", metavar="N=HEX", type=_pcr, action="append", help="one PCR of a NitroTPM's document"
    )
    registers.add_argument("--any-pcrs", action="store_true", help="accept any measurements: you judge them")
    others = parser.add_argument_group("other expectations")
    others.add_argument("--nonce", metavar="HEX", type=_hex, help=nonce_help)
    others.add_argument("--user-data", metavar="HEX", type=_hex, help="the user data it must show")
    others.add_argument("--public-key", metavar="HEX", type=_hex, help="the public key it must show")
    others.add_argument(
        "--crl",
        metavar="FILE",
        type=path_argument,
        action="append",
        help="refuse certificates on this revocation list, taken as yours: its signature is not checked; "
        "repeatable",
    ).complete = FILES  # type: ignore[attr-defined]
    others.add_argument(
        "--reconstruct",
        action="store_true",
        help="write the payload again from what is expected, and demand that these bytes were signed",
    )
    others.add_argument("--allow-debug", action="store_true", help="accept enclaves in debug mode")
    add_root_argument(parser)
    parser.set_defaults(usage_error=parser.error)


def add_root_argument(parser: argparse.ArgumentParser) -> None:
    """Declare where trust starts."""
    parser.add_argument(
        "--root",
        metavar="PEM",
        type=path_argument,
        action="append",
        help="file with trusted root certificates; repeatable (default: this host's own root)",
    ).complete = FILES  # type: ignore[attr-defined]


def hold_expectations(
    args: argparse.Namespace, *, nonce: bytes | None, max_age: timedelta | None
) -> Expected:
    """Return what the options expect; measures an image, reads a certificate; raises CloisterError."""
    given = [option for option in _MEASURED if getattr(args, option[2:].replace("-", "_")) is not None]
    if given and args.any_pcrs:
        args.usage_error(f"argument --any-pcrs: not allowed with argument {given[0]}")
    if not given and not args.any_pcrs:
        args.usage_error(f"one of the arguments {' '.join(_MEASURED)} --any-pcrs is required")
    expect = Expected(
        pcrs=_expected_pcrs(args) or None,
        nitrotpm_pcrs=_join(args.usage_error, [("--nitrotpm-pcr", args.nitrotpm_pcr or [])]) or None,
        any_pcrs=args.any_pcrs,
        nonce=nonce,
        user_data=args.user_data,
        public_key=args.public_key,
        max_age=max_age,
        allow_debug=args.allow_debug,
        revoked=frozenset(entry for path in args.crl or [] for entry in _revoked(path)),
        reconstruct=args.reconstruct,
    )
    if fault := expect.fault(datetime.now(UTC)):
        args.usage_error(fault)
    return expect


def advice(error: VerificationError, args: argparse.Namespace) -> str:
    """Say, after a refusal, what the options had to do with it; empty where there is nothing to say."""
    if error.name != "pcrs":
        return ""
    for index, option in ((3, "role_arn"), (4, "instance_id")):
        value = getattr(args, option, None)
        if value is not None and re.match(f"PCR{index} is ", error.reason):
            return f", which is that of {plain(value)}"
    if "debug mode" in error.reason and getattr(args, "allow_debug", False):
        return "; for an enclave in debug mode say --any-pcrs --allow-debug"
    return ""


def read_roots(paths: list[Path] | None) -> list[x509.Certificate]:
    """Return the trusted roots: those named, or this host's own; raise CloisterError."""
    if paths is not None:
        return [root for path in paths for root in _read_certificates(path, "root certificate")]
    try:
        return list(trusted_roots(current_places().pki, datetime.now(UTC)))
    except TrustMissingError:
        raise CloisterError(
            "this host has no root of trust of its own: name one with --root, or run 'cloister setup'"
        ) from None


def image_registers(path: Path) -> dict[int, bytes]:
    """Return the registers of a production enclave of this image; raise CloisterError."""
    return measure_image(path)[1].registers()


def time_argument(text: str) -> datetime:
    """Read a moment, for argparse; UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 2026-11-23T12:00:00Z") from None


def seconds_argument(text: str) -> timedelta:
    """Read a whole number of seconds, for argparse."""
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return timedelta(seconds=int(text))


def _pcr(text: str) -> tuple[int, bytes]:
    match = re.fullmatch(r"(?:PCR)?([0-9]{1,2})=(?:0x)?([0-9A-Fa-f]*)", text, re.ASCII)
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
    if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not an even number of hexadecimal digits, above 0")
    return bytes.fromhex(text)


def _role_arn(text: str) -> str:
    try:
        check_role_arn(text)
    except CloisterError as error:
        raise argparse.ArgumentTypeError(plain(error.message)) from None
    return text


def _instance_id(text: str) -> str:
    try:
        check_instance_id(text)
    except CloisterError as error:
        raise argparse.ArgumentTypeError(plain(error.message)) from None
    return text


def _expected_pcrs(args: argparse.Namespace) -> dict[int, bytes]:
    """Join what the options say of each register; two that differ are wrong usage."""
    claims: list[tuple[str, list[tuple[int, bytes]]]] = [("--pcr", args.pcr or [])]
    for option, index, text in (("--role-arn", 3, args.role_arn), ("--instance-id", 4, args.instance_id)):
        if text is not None:
            claims.append((option, [(index, extend(ZERO_PCR, os.fsencode(text)))]))
    if args.signer is not None:
        claims.append(("--signer", [(8, _signer_register(args.signer))]))
    if args.image is not None:
        claims.append(("--image", [*image_registers(args.image).items()]))
    return _join(args.usage_error, claims)


def _join(
    usage_error: Callable[[str], NoReturn], claims: list[tuple[str, list[tuple[int, bytes]]]]
) -> dict[int, bytes]:
    expected: dict[int, tuple[str, bytes]] = {}
    for option, registers in claims:
        for index, value in registers:
            first, known = expected.setdefault(index, (option, value))
            if known != value:
                by = "" if first == option else f", by {first} and by {option}"
                usage_error(f"argument {option}: PCR{index} is given twice with different values{by}")
    return {index: value for index, (_, value) in expected.items()}


def _signer_register(path: Path) -> bytes:
    """Return the register that a signing certificate's images have: it is measured as DER."""
    certificates = _read_certificates(path, "signer's certificate")
    if len(certificates) != 1:
        raise CloisterError(f"'{plain(str(path))}' holds {len(certificates)} certificates, one was expected")
    return measure_bytes(certificates[0].public_bytes(Encoding.DER))


def _revoked(path: Path) -> set[Revocation]:
    """Return the entries of a revocation list in PEM or DER; raise CloisterError."""
    name = plain(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_CRL + 1)
        if len(data) > _MAX_CRL:
            raise CloisterError(f"the revocation list '{name}' has more than {_MAX_CRL} bytes")
        pem = b"-----BEGIN" in data
        crl = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        issuer = crl.issuer.public_bytes()
        return {Revocation(issuer, entry.serial_number) for entry in crl}
    except OSError as error:
        raise CloisterError(f"the revocation list '{name}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CloisterError(f"'{name}' is no revocation list in PEM or DER form") from error


def _read_certificates(path: Path, what: str) -> list[x509.Certificate]:
    name = plain(str(path))
    try:
        with path.open("rb") as file:
            return x509.load_pem_x509_certificates(file.read(MAX_TEXT))
    except OSError as error:
        raise CloisterError(f"the {what} '{name}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CloisterError(f"'{name}' does not hold certificates in PEM form") from error
