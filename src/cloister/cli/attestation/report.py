"""What a document says, line by line for people and as JSON for programs; nothing in it drives a terminal."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from cloister.attestation import STEPS, Document, Expected, VerificationError
from cloister.cli.attestation.certificates import CertificateView, span, view_certificate
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


def moment_line(made: datetime, now: datetime | None) -> str:
    """Return the line that says when a document was made; ``now`` is None when its own time is taken."""
    if now is None:
        words = "taken as the time of verification"
    elif made <= now:
        words = f"{span(now - made)} ago"
    else:
        words = f"{span(made - now)} in the FUTURE"
    return f"time        {made:%Y-%m-%d %H:%M:%S.%f}"[:-3] + f" UTC, {words}"


def compared(expect: Expected) -> tuple[list[str], list[str]]:
    """Return what was held against the document, and what was not, by name."""
    registers = [f"PCR{index}" for index in sorted(expect.registers)]
    named = {
        "nonce": expect.nonce,
        "user_data": expect.user_data,
        "public_key": expect.public_key,
        "age": expect.max_age,
    }
    given = [name for name, value in named.items() if value is not None]
    missing = [name for name in named if name not in given]
    return [*registers, *given], missing if registers else ["PCRs", *missing]


def _comparison_lines(expect: Expected) -> list[str]:
    """Say what was compared; and what a document without nonce and age may be, which is old."""
    done, left = compared(expect)
    lines = [f"compared    {', '.join(done) or 'nothing'}"]
    if left:
        lines.append(f"            NOT compared: {', '.join(left)}")
    if expect.nonce is None and expect.max_age is None:
        lines.append("            it may have been made at any time in its signer's life, some three hours")
    return lines


def verified_lines(content: Document, now: datetime | None, expect: Expected) -> list[str]:
    """Say what a verified document says, for people."""
    lines = [
        f"verified: all {len(STEPS)} steps",
        *_comparison_lines(expect),
        f"module      {content.module_id}" + (" (NitroTPM)" if content.nitrotpm else ""),
        moment_line(content.time, now),
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


def verified_json(content: Document, expect: Expected) -> dict[str, Any]:
    """Say what a verified document says, for programs."""
    done, left = compared(expect)
    return {
        "Verified": True,
        "Compared": done,
        "NotCompared": left,
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


def trouble_json(message: str) -> dict[str, Any]:
    """Say that nothing could be verified, shown or compared, and why, for programs."""
    return {"Verified": None, "Error": message}


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
