"""``cloister attestation show``: a document for people, unverified, as much of it as can be read."""

import argparse
import json
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cloister.attestation import Expected, VerificationError, verify
from cloister.cli.attestation.dissection import OPTIONAL, Dissection, dissect
from cloister.cli.attestation.expectations import add_root_argument, read_roots, time_argument
from cloister.cli.attestation.report import (
    DEBUG_WARNING,
    field_line,
    hexed,
    meaning,
    moment_line,
    preview,
    register_lines,
    registers_json,
)
from cloister.cli.attestation.sources import FORMS, read_document
from cloister.cli.options import FILES, name_argument
from cloister.cli.table import plain
from cloister.errors import CloisterError

SUMMARY: Final = "print a document without believing it"
DESCRIPTION: Final = f"""Print what a document says and what is wrong with it, without believing any of it.

  cloister attestation show hello.cose
  cloister attestation show https://example.com/document --root root.pem --json

Exit 0 when there was a document to show, verifiable or not; 1 when the bytes are none; 2 for wrong usage
and for what could not be read or fetched.

{FORMS}"""
_BANNER: Final = (
    "NOT VERIFIED: anybody can write this. 'cloister attestation verify' decides whether to believe it."
)
_TREE: Final = ("chain       ", " " * 12)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "document", metavar="DOC", type=name_argument, help="file, -, URL, hex:... or base64:..."
    ).complete = FILES  # type: ignore[attr-defined] # shtab's way
    add_root_argument(parser)
    parser.add_argument(
        "--at",
        metavar="TIME",
        type=time_argument,
        help="look at it at this time (ISO 8601, UTC unless it names a zone; default: now)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Take the document apart and print it."""
    now = args.at or datetime.now(UTC)
    document = read_document(args.document)
    dissection = dissect(document)
    try:
        roots = read_roots(args.root)
    except CloisterError:
        if args.root is not None:
            raise
        roots = []  # a host without a root of its own can still look
    check = _check(document, roots, now)
    if args.json:
        print(json.dumps(_as_json(dissection, check, now), indent=2))
    else:
        print("\n".join([_BANNER, *_check_lines(check), *_lines(dissection, now)]))
    return 0


def _check(document: bytes, roots: list[x509.Certificate], now: datetime | None) -> dict[str, Any]:
    """Try all that a verifier does without expectations: now, else at the document's own time."""
    if not roots:
        return {"Passed": None, "Reason": "there is no root to check it against: name one with --root"}
    expect = Expected(any_pcrs=True, allow_debug=True)
    found: dict[str, Any] = {"At": now and now.isoformat(), "Roots": [_fingerprint(root) for root in roots]}
    try:
        verify(document, roots=roots, now=now, expect=expect)
    except VerificationError as error:
        found |= {"Passed": False, "Step": error.step, "Name": error.name, "Reason": error.reason}
        if now is not None and error.name in {"validity", "timestamp"}:
            found["AtDocumentTime"] = _check(document, roots, None)
        return found
    return found | {"Passed": True}


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _check_lines(check: dict[str, Any]) -> list[str]:
    """Say what the check found, in one line or two."""
    if check["Passed"] is None:
        return [f"check       none: {check['Reason']}"]
    if check["Passed"]:
        return ["check       its chain and signature hold; what it says was not compared with anything"]
    lines = [f"check       FAILS at step {check['Step']} ({check['Name']}): {plain(check['Reason'])}"]
    if then := check.get("AtDocumentTime"):
        verdict = "its chain and signature hold"
        if not then["Passed"]:
            verdict = f"FAILS at step {then['Step']} ({then['Name']}): {plain(then['Reason'])}"
        lines.append(f"            at the document's own time: {verdict}")
    return lines


def _lines(dissection: Dissection, now: datetime) -> list[str]:
    tag = "tagged 18" if dissection.tagged else "without tag"
    length = "indefinite" if dissection.indefinite else "definite"
    fields = len(dissection.fields)
    form = f"COSE_Sign1 {tag}, {dissection.algorithm}"
    lines = [f"problem     {problem}" for problem in dissection.problems]
    lines += [
        f"document    {dissection.size} bytes, {form}, {fields} fields in a map of {length} length",
        *_module_lines(dissection),
        *([moment_line(dissection.time, now)] if dissection.time else ()),
        *([DEBUG_WARNING] if dissection.debug and dissection.pcrs else ()),
        *register_lines(dissection.pcrs, nitrotpm=dissection.nitrotpm),
    ]
    for name in OPTIONAL:
        value = dissection.value(name)
        lines.append(f"{name:<12}none" if value is None else field_line(name, value))
    for depth, certificate in enumerate(dissection.certificates):
        first, *rest = certificate.lines(now)
        label = _TREE[0] if depth == 0 else _TREE[1] + "   " * (depth - 1) + "+- "
        lines.append(f"{label}{first}")
        lines += [f"{_TREE[1]}{'   ' * depth}  {line}" for line in rest]
    return lines


def _module_lines(dissection: Dissection) -> list[str]:
    if dissection.module_id is None:
        return []
    lines = [f"module      {plain(dissection.module_id)}" + (" (NitroTPM)" if dissection.nitrotpm else "")]
    if module := dissection.module:
        started = f"{module.started:%Y-%m-%d %H:%M:%S.%f}"[:-3]
        lines.append(f"            instance {module.instance_id}, {module.enclave_id}, started {started} UTC")
    return lines


def _as_json(dissection: Dissection, check: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return everything, for programs."""
    module, made = dissection.module, dissection.time
    return {
        "Verified": False,
        "Check": check,
        "Problems": list(dissection.problems),
        "Size": dissection.size,
        "Tagged": dissection.tagged,
        "Algorithm": dissection.algorithm,
        "MapEncoding": "indefinite" if dissection.indefinite else "definite",
        "Signature": dissection.signature.hex(),
        "FieldNames": [plain(str(name)[:64]) for name in dissection.fields],
        "ModuleId": dissection.module_id,
        "Module": module
        and {
            "InstanceId": module.instance_id,
            "EnclaveId": module.enclave_id,
            "Started": module.started.isoformat(),
        },
        "Platform": "NitroTPM" if dissection.nitrotpm else "NitroEnclave",
        "Timestamp": made and made.isoformat(),
        "AgeSeconds": made and (now - made).total_seconds(),
        "Debug": dissection.debug,
        "PCRs": registers_json(dissection.pcrs),
        "PCRMeanings": {
            f"PCR{index}": words
            for index in dissection.pcrs
            if (words := meaning(index, nitrotpm=dissection.nitrotpm))
        },
        "PublicKey": hexed(dissection.value("public_key")),
        "UserData": hexed(dissection.value("user_data")),
        "UserDataText": preview(dissection.value("user_data") or b""),
        "Nonce": hexed(dissection.value("nonce")),
        "Chain": [certificate.to_json(now) for certificate in dissection.certificates],
    }
