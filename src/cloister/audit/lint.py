"""Lint: everything about an image that is ambiguous or dangerous. Spec: security checklist 5.6."""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from cloister.audit.boot import judge_cmdline, judge_kernel
from cloister.audit.findings import Findings
from cloister.audit.secrets import SecretScanner
from cloister.audit.structure import judge_structure
from cloister.audit.tree import Progress, TreeJudge
from cloister.audit.walk import CMDLINE, KERNEL, METADATA, RAMDISK, SIGNATURE, LooseHeader, LooseSection
from cloister.cpio import Expand, as_it_is
from cloister.eif import (
    CertificateExpiredError,
    EifError,
    ImageMetadata,
    PayloadMismatchError,
    SignatureError,
    SignatureSection,
    check_dates,
)
from cloister.mapped import pieces
from cloister.pcrs import ZERO_PCR, extend

_MEBIBYTE: Final = 1 << 20
_MEMORY_PER_IMAGE: Final = 4
"""run-enclave wants this many times the file's size (nitro-tools 6.2)."""
_SOON: Final = timedelta(days=30)


def lint(
    view: memoryview,
    now: datetime,
    *,
    ignore: Iterable[str] = (),
    progress: Progress | None = None,
    expand: Expand = as_it_is,
) -> Findings:
    """Judge an image, however malformed; never raises for what is in it.

    ``ignore`` holds codes, or ``CODE:PATTERN`` for the files whose name in the ramdisk fits the pattern.
    ``expand`` unpacks compressed ramdisks; without it they are not examined.
    """
    findings, progress = Findings(ignore), progress or (lambda _what, _done, _total: None)
    progress("reading", 0, len(view))
    found = judge_structure(view, findings)
    if found is None:
        return findings
    header, sections = found
    architecture = "aarch64" if header.flags & 1 else "x86_64"
    for section in sections:
        if section.kind == KERNEL:
            judge_kernel(section.payload, architecture, findings)
        elif section.kind == CMDLINE:
            judge_cmdline(section.payload, findings)
        elif section.kind == METADATA:
            _judge_metadata(section.payload, findings)
    _judge_signature(sections, now, findings)
    tree = TreeJudge(findings, progress, expand)
    tree.judge([section.payload for section in sections if section.kind == RAMDISK])
    _judge_memory(header, len(view), tree.unpacked, findings)
    findings.add("L117", "sections", "A policy that names PCR0 alone accepts other boundaries as well.")
    return findings


def _judge_metadata(payload: memoryview, findings: Findings) -> None:
    try:
        ImageMetadata.from_bytes(payload)
    except EifError as error:
        findings.add("L307", "metadata", error.message)
    SecretScanner(findings).scan(payload, "metadata")


def _judge_signature(sections: list[LooseSection], now: datetime, findings: Findings) -> None:
    found = [section.payload for section in sections if section.kind == SIGNATURE]
    if not found:
        findings.add("L306", "signature", "There is none.")
        return
    try:
        signature = SignatureSection.from_bytes(found[0])
        certificate = signature.certificate
    except SignatureError as error:
        findings.add("L301", "signature", error.message)
        return
    try:
        signature.verify(_pcr0(sections))
    except PayloadMismatchError as error:
        findings.add("L303", "signature", error.message)
    except SignatureError as error:
        findings.add("L302", "signature", error.message)
    try:
        check_dates(certificate, now)
    except CertificateExpiredError as error:
        findings.add("L304", "signature", error.message)
        return
    if certificate.not_valid_after_utc - now < _SOON:
        last = certificate.not_valid_after_utc
        findings.add("L305", "signature", f"The certificate is valid until {last:%Y-%m-%dT%H:%M:%SZ}.")


def _pcr0(sections: list[LooseSection]) -> bytes:
    """Measure what a sequential reader measures, also of an image that the strict reader refuses."""
    digest = hashlib.sha384()
    for section in sections:
        if section.kind in (KERNEL, CMDLINE, RAMDISK):
            for piece in pieces(section.payload):
                digest.update(piece)
    return extend(ZERO_PCR, digest.digest())


def _judge_memory(header: LooseHeader, size: int, unpacked: int, findings: Findings) -> None:
    """Ask for what run-enclave does, or for archive and files side by side if that is more."""
    least = max(-(-size // _MEBIBYTE) * _MEMORY_PER_IMAGE, -(-(size + unpacked) // _MEBIBYTE))
    findings.add("L701", "file", f"At least {least} MiB: its {size} bytes unpack to {unpacked} more.")
    if header.default_memory < least * _MEBIBYTE:
        default = header.default_memory // _MEBIBYTE
        findings.add("L702", "header", f"At least {least} MiB are needed; the default is {default} MiB.")
