"""Verify an attestation document in numbered steps, each of which refuses with its number and name.

AWS's procedure (``kms-and-attestation.md`` section 3.1) and every rule of ``security-checklist.md`` section
5.8 that one document can be held to. The caller must say which enclave it expects, or that it will judge.
Two equivalent forms of one signed statement are accepted: COSE tag 18 or none, and either of the two ECDSA
signatures (s and n - s); so a document's bytes do not identify it. Not here: stores against replay.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.attestation.document import Document, DocumentError
from cloister.attestation.expected import Expected, fault_of_arguments
from cloister.cose import CoseError, IndefiniteMap, Sign1
from cloister.errors import CloisterError
from cloister.pcrs import IMAGE_PCRS, ZERO_PCR
from cloister.pki import CHAIN_CHECKS, CertificateCache, ChainError, validate_chain

MAX_DOCUMENT = 16384  # bytes, before anything is parsed (security-checklist.md, section 5.8)
MAX_SKEW = timedelta(minutes=5)  # how far ahead of the clock a document may lie whose age matters
_PROTECTED = bytes.fromhex("a1013822")  # {1: -35}, ES384: the only header of genuine documents
_INDEFINITE = b"\xbf"  # how a payload begins that AWS wrote since June 2025
_NAMES = {None: "none", b"": "an empty one"}

STEPS = (
    "expectations",  # the caller said what it expects, and it can be met
    "size",
    "envelope",  # a COSE_Sign1, tagged 18 or not
    "header",  # ES384 and nothing else
    "payload",  # one CBOR map
    "fields",  # each present, of its type and size
    *CHAIN_CHECKS,
    "signature",  # by the leaf's key, over the bytes as received
    "timestamp",  # within the leaf's life
    "age",
    "debug",
    "pcrs",
    "nonce",
    "user_data",
    "public_key",
    "reconstruction",  # if asked for: what was expected, written again, is what was signed
)
"""The steps in order; a step's number is its place, from 1."""


class VerificationError(CloisterError):
    """The document is refused: the step's number from 1, its name in STEPS, and why."""

    def __init__(self, step: int, name: str, message: str) -> None:
        super().__init__(f"step {step} ({name}): {message}")
        self.step = step
        self.name = name
        self.reason = message


def verify(
    document: bytes,
    *,
    roots: Sequence[x509.Certificate],
    now: datetime | None,
    expect: Expected,
    cache: CertificateCache | None = None,
) -> Document:
    """Return the document's content if every step holds, else raise VerificationError.

    ``document`` is a COSE_Sign1 of at most 16 KiB; ``roots`` are the pinned ones, see ``load_roots``. ``now``
    must be aware; None judges certificates at the document's own time, which proves no freshness. ``cache``
    remembers chains that passed, so that for them only the time, the roots and revocation are judged again.
    """
    if fault := fault_of_arguments(roots, expect, cache) or expect.fault(now):
        _refuse("expectations", fault)
    envelope = _open(document)
    content = _read(envelope.payload)
    at = content.time if now is None else _utc(now)
    try:
        chain = validate_chain(
            content.certificate, content.cabundle, roots, at, revoked=expect.revoked, cache=cache
        )
    except ChainError as error:
        _refuse(error.check, error.message, error)
    _check_signature(envelope, chain[-1])
    _check_time(content, chain[-1], at, expect.max_age)
    if not expect.allow_debug:
        _check_debug(content, expect)
    _check_pcrs(content, expect)
    for name, wanted, found in (
        ("nonce", expect.nonce, content.nonce),
        ("user_data", expect.user_data, content.user_data),
        ("public_key", expect.public_key, content.public_key),
    ):
        if wanted is not None and wanted != found:
            _refuse(name, f"the document's {name} is {_shown(found)}, not {_shown(wanted)}")
    if expect.reconstruct:
        _check_reconstruction(content, expect, envelope.payload)
    return content


def _refuse(name: str, message: str, cause: Exception | None = None) -> NoReturn:
    raise VerificationError(STEPS.index(name) + 1, name, message) from cause


def _shown(value: bytes | None) -> str:
    """Write a byte field for an error text, shortened."""
    if not value:
        return _NAMES[value]
    return value.hex() if len(value) <= 32 else f"{value[:32].hex()}... ({len(value)} bytes)"


def _spell(length: timedelta) -> str:
    """Write how long something is, to the millisecond above, so that more than a limit never reads as it."""
    minutes, milliseconds = divmod(-(-length // timedelta(milliseconds=1)), 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours // 24, "d"), (hours % 24, "h"), (minutes, "min")]
    words = [f"{count} {unit}" for count, unit in parts if count]
    if milliseconds or not words:
        words.append(f"{milliseconds / 1000:g} s")
    return " ".join(words)


def _utc(now: datetime) -> datetime:
    try:
        return now.astimezone(UTC)
    except OverflowError as error:
        _refuse("expectations", "the time to verify at is beyond the calendar", error)


def _open(document: bytes) -> Sign1:
    if not isinstance(document, bytes):
        _refuse("size", f"a document is bytes, not {type(document).__name__}")
    if not 1 <= len(document) <= MAX_DOCUMENT:
        _refuse("size", f"the document has {len(document)} bytes, not 1 to {MAX_DOCUMENT}")
    try:
        envelope = Sign1.from_bytes(document)
    except CoseError as error:
        _refuse("envelope", error.message, error)
    if envelope.protected != _PROTECTED:
        _refuse("header", "the protected header is not exactly the algorithm ES384 (a1013822)")
    if envelope.unprotected or isinstance(envelope.unprotected, IndefiniteMap):
        _refuse("header", "the unprotected header is not the empty map (a0)")
    return envelope


def _read(payload: bytes) -> Document:
    try:
        return Document.from_bytes(payload)
    except DocumentError as error:
        _refuse(error.part, error.message, error)


def _check_signature(envelope: Sign1, leaf: x509.Certificate) -> None:
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey), "validate_chain admits P-384 keys alone"
    try:
        envelope.verify(key)
    except CoseError as error:
        _refuse("signature", error.message, error)


def _check_time(content: Document, leaf: x509.Certificate, now: datetime, max_age: timedelta | None) -> None:
    """Hold the document's own time against its signer's life and, where age matters, the verifier's clock."""
    made = content.time.replace(microsecond=0)
    if not leaf.not_valid_before_utc <= made <= leaf.not_valid_after_utc:
        _refuse("timestamp", "the document's time lies outside the life of the certificate that signed it")
    if max_age is None:
        return
    age = now - content.time
    if age > max_age:
        _refuse("age", f"the document is {_spell(age)} old, and {_spell(max_age)} is allowed")
    ahead = min(max_age, MAX_SKEW)
    if -age > ahead:
        _refuse("age", f"the document is {_spell(-age)} in the future, and {_spell(ahead)} is allowed")


def _check_debug(content: Document, expect: Expected) -> None:
    """Refuse debug mode, and the expectation that only debug mode meets."""
    if content.debug:
        _refuse(
            "debug", "PCR0, PCR1 and PCR2 are zero: the enclave runs in debug mode, which protects nothing"
        )
    for index in IMAGE_PCRS:
        if expect.pcrs and expect.pcrs.get(index) == ZERO_PCR:
            _refuse(
                "debug",
                f"PCR{index} is expected to be zero, as it is in debug mode alone: expect the image's own",
            )


def _check_pcrs(content: Document, expect: Expected) -> None:
    """Compare every expected register; one that the document lacks does not match."""
    if (expect.pcrs or expect.signer is not None) and content.nitrotpm:
        _refuse("pcrs", "an enclave's PCRs are expected, and this is a NitroTPM document")
    if expect.nitrotpm_pcrs and not content.nitrotpm:
        _refuse("pcrs", "a NitroTPM's PCRs are expected, and this is an enclave's document")
    for index, wanted in sorted(expect.registers.items()):
        found = content.pcrs.get(index)
        if found is None:
            _refuse("pcrs", f"PCR{index} is expected, and the document does not show it")
        if found != wanted and content.debug and index in IMAGE_PCRS:
            why = "zero, as in debug mode, which shows no image's registers, and not"
            _refuse("pcrs", f"PCR{index} is {why} {wanted.hex()}")
        if found != wanted:
            _refuse("pcrs", f"PCR{index} is {found.hex()}, not {wanted.hex()}")


def _check_reconstruction(content: Document, expect: Expected, payload: bytes) -> None:
    """Write what was expected, and the rest as it was read, and compare with the bytes that were signed."""
    rebuilt = Document(
        module_id=content.module_id,
        timestamp=content.timestamp,
        pcrs={**content.pcrs, **expect.registers},
        certificate=content.certificate,
        cabundle=content.cabundle,
        public_key=content.public_key if expect.public_key is None else expect.public_key,
        user_data=content.user_data if expect.user_data is None else expect.user_data,
        nonce=content.nonce if expect.nonce is None else expect.nonce,
        nitrotpm=content.nitrotpm,
    )
    if rebuilt.to_bytes(indefinite=payload.startswith(_INDEFINITE)) != payload:
        _refuse("reconstruction", "what is expected, written as AWS writes it, is not what was signed")
