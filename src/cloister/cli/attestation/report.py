"""What a document says, line by line for people and as JSON for programs; nothing in it drives a terminal."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from cloister.attestation import STEPS, Document, VerificationError
from cloister.cli.attestation.certificates import CertificateView, view_certificate
from cloister.pcrs import ZERO_PCR

DEBUG_WARNING: Final = (
    "WARNING     debug mode: the parent reads this enclave's console, and its image is not measured"
)
_ENCLAVE: Final = {
    0: "the whole image",
    1: "kernel and bootstrap",
    2: "application",
    3: "the host's role",
    4: "the host's instance id",
    8: "the image's signing certificate",
} | dict.fromkeys(range(16, 32), "the application's own")
_NITROTPM: Final = {
    0: "firmware",
    1: "firmware configuration",
    2: "option ROMs and drivers",
    3: "their configuration",
    4: "boot loader or unified kernel image",
    5: "boot configuration and partition table",
    6: "platform",
    7: "Secure Boot policy",
    8: "boot loader's commands",
    9: "files that the boot loader read",
    11: "unified kernel image, by section",
    12: "kernel command line and overrides",
    14: "shim's certificates",
    16: "debugging",
    23: "the application's own",
}
"""TCG PC Client Platform Firmware Profile, PCR usage; 8, 9, 11, 12 and 14 as Linux distributions use them."""


def meaning(index: int, *, nitrotpm: bool) -> str:
    """Say in a few words what a register measures; nothing where nobody has said."""
    return (_NITROTPM if nitrotpm else _ENCLAVE).get(index, "")


def register_lines(pcrs: Mapping[int, bytes], *, nitrotpm: bool) -> list[str]:
    """Return a line for each register that is not zero, and one for those that are."""
    lines = []
    for index, value in sorted(pcrs.items()):
        if value != ZERO_PCR:
            words = meaning(index, nitrotpm=nitrotpm)
            lines.append(f"PCR{index:<9}{value.hex()}" + (f"  {words}" if words else ""))
    zero = [str(index) for index, value in sorted(pcrs.items()) if value == ZERO_PCR]
    return [*lines, f"zero        PCR {', '.join(zero)}"] if zero else lines


def field_line(name: str, value: bytes) -> str:
    """Return the line of an optional field: hexadecimal, its size, and its text if it is one."""
    size = f" ({len(value)} byte{'' if len(value) == 1 else 's'})" if value else ""
    text = preview(value)
    return f"{name:<12}{value.hex() or 'empty'}{size}" + ("" if text is None else f"  {text}")


def preview(value: bytes) -> str | None:
    """Return a field as text, quoted, if all of it is printable; shortened."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    if not text or not text.isprintable():
        return None
    return json.dumps(text if len(text) <= 200 else f"{text[:200]}...", ensure_ascii=False)


def verified_lines(content: Document, now: datetime | None) -> list[str]:
    """Say what a verified document says, for people."""
    age = (
        f"{now - content.time} before the time of verification"
        if now
        else "taken as the time of verification"
    )
    lines = [
        f"verified: all {len(STEPS)} steps",
        f"module      {content.module_id}" + (" (NitroTPM)" if content.nitrotpm else ""),
        f"time        {content.time:%Y-%m-%d %H:%M:%S.%f} UTC, {age}",
        *([DEBUG_WARNING] if content.debug else ()),
        *register_lines(content.pcrs, nitrotpm=content.nitrotpm),
    ]
    for name in ("nonce", "user_data", "public_key"):
        value = getattr(content, name)
        if value is not None:
            lines.append(field_line(name, value))
    chain = _chain(content)
    for depth, certificate in enumerate(chain):
        label = "signers     " if depth == 0 else " " * 12
        # A chain that verified may hold a name that the library cannot read: names are compared as bytes.
        note = certificate.problem or f"until {certificate.not_after:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(f"{label}{'  ' * depth}{certificate.common_name} ({note})")
    lines.append(f"root        SHA-256 {chain[0].fingerprint}")
    return lines


def verified_json(content: Document) -> dict[str, Any]:
    """Say what a verified document says, for programs."""
    return {
        "Verified": True,
        "ModuleId": content.module_id,
        "Platform": "NitroTPM" if content.nitrotpm else "NitroEnclave",
        "Timestamp": content.time.isoformat(),
        "Debug": content.debug,
        "PCRs": registers_json(content.pcrs),
        "PublicKey": hexed(content.public_key),
        "UserData": hexed(content.user_data),
        "Nonce": hexed(content.nonce),
        "Signers": [_signer_json(certificate) for certificate in _chain(content)],
    }


def refusal_json(error: VerificationError) -> dict[str, Any]:
    """Say which step refused, for programs."""
    return {"Verified": False, "Step": error.step, "Name": error.name, "Reason": error.reason}


def registers_json(pcrs: Mapping[int, bytes]) -> dict[str, str]:
    """Return registers by name, in hex."""
    return {f"PCR{index}": value.hex() for index, value in sorted(pcrs.items())}


def hexed(value: bytes | None) -> str | None:
    """Return bytes in hex, and nothing as nothing."""
    return None if value is None else value.hex()


def _signer_json(certificate: CertificateView) -> dict[str, Any]:
    if certificate.problem is not None:
        return {"Fingerprint": certificate.fingerprint, "Problem": certificate.problem}
    return {
        "Subject": certificate.subject,
        "NotBefore": certificate.not_before.isoformat(),
        "NotAfter": certificate.not_after.isoformat(),
        "Fingerprint": certificate.fingerprint,
    }


def _chain(content: Document) -> list[CertificateView]:
    return [view_certificate(der) for der in (*content.cabundle, content.certificate)]
