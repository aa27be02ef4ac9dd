"""Verify an attestation document in numbered steps, each of which refuses with its number and name.

AWS's procedure (``kms-and-attestation.md`` section 3.1) and every rule of ``security-checklist.md`` section
5.8 that one document can be held to. The caller must say which PCRs it expects, or that it will judge them.
Two equivalent forms of one signed statement are accepted: COSE tag 18 or none, and either of the two ECDSA
signatures (s and n - s); so a document's bytes do not identify it. Not here: revocation, replay stores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.attestation.document import NITROTPM_PCR_COUNT, Document, DocumentError
from cloister.cose import CoseError, Sign1
from cloister.errors import CloisterError
from cloister.pcrs import PCR_COUNT, PCR_SIZE
from cloister.pki import CHAIN_CHECKS, ChainError, validate_chain

MAX_DOCUMENT = 16384  # bytes, before anything is parsed (security-checklist.md, section 5.8)
MAX_SKEW = timedelta(minutes=5)  # how far a document may lie in the verifier's future
_PROTECTED = bytes.fromhex("a1013822")  # {1: -35}, ES384: the only header of genuine documents
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
    "timestamp",  # within the leaf's life, not in the future
    "age",
    "debug",
    "pcrs",
    "nonce",
    "user_data",
    "public_key",
)
"""The steps in order; a step's number is its place, from 1."""


class VerificationError(CloisterError):
    """The document is refused: the step's number from 1, its name in STEPS, and why."""

    def __init__(self, step: int, name: str, message: str) -> None:
        super().__init__(f"step {step} ({name}): {message}")
        self.step = step
        self.name = name
        self.reason = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the verifier knows beforehand; leave PCRs out only with ``any_pcrs``, then judge them yourself."""

    pcrs: Mapping[int, bytes] | None = None
    """Registers an enclave document must show; a NitroTPM document never satisfies them."""
    nitrotpm_pcrs: Mapping[int, bytes] | None = None
    """Registers a NitroTPM document must show; an enclave document never satisfies them."""
    any_pcrs: bool = False
    nonce: bytes | None = None
    user_data: bytes | None = None
    public_key: bytes | None = None
    max_age: timedelta | None = None
    """Largest distance between the document's time and now, on either side."""
    allow_debug: bool = False


def verify(
    document: bytes, *, roots: Sequence[x509.Certificate], now: datetime | None, expect: Expected
) -> Document:
    """Return the document's content if every step holds, else raise VerificationError.

    ``now`` must be aware; None judges certificates at the document's own time, which proves no freshness.
    """
    _check_expectations(expect, now)
    if not 1 <= len(document) <= MAX_DOCUMENT:
        _refuse("size", f"the document has {len(document)} bytes, not 1 to {MAX_DOCUMENT}")
    envelope = _open(document)
    content = _read(envelope.payload)
    at = content.time if now is None else now
    try:
        chain = validate_chain(content.certificate, content.cabundle, roots, at)
    except ChainError as error:
        _refuse(error.check, error.message, error)
    _check_signature(envelope, chain[-1])
    _check_time(content, chain[-1], at, expect.max_age)
    if content.debug and not expect.allow_debug:
        _refuse(
            "debug", "PCR0, PCR1 and PCR2 are zero: the enclave runs in debug mode, which protects nothing"
        )
    _check_pcrs(content, expect)
    for name, wanted, found in (
        ("nonce", expect.nonce, content.nonce),
        ("user_data", expect.user_data, content.user_data),
        ("public_key", expect.public_key, content.public_key),
    ):
        if wanted is not None and wanted != found:
            _refuse(name, f"the document's {name} is {_shown(found)}, not {_shown(wanted)}")
    return content


def _refuse(name: str, message: str, cause: Exception | None = None) -> NoReturn:
    raise VerificationError(STEPS.index(name) + 1, name, message) from cause


def _shown(value: bytes | None) -> str:
    """Write a byte field for an error text, shortened."""
    if not value:
        return _NAMES[value]
    return value.hex() if len(value) <= 32 else f"{value[:32].hex()}... ({len(value)} bytes)"


def _check_expectations(expect: Expected, now: datetime | None) -> None:
    """Fail closed: an empty or impossible expectation is not one that everything meets."""
    if not expect.any_pcrs and not expect.pcrs and not expect.nitrotpm_pcrs:
        _refuse("expectations", "no expected PCRs were given, nor was it said that any will do")
    if expect.pcrs and expect.nitrotpm_pcrs:
        _refuse(
            "expectations", "PCRs of an enclave and of a NitroTPM cannot both be expected of one document"
        )
    for values, count in ((expect.pcrs, PCR_COUNT), (expect.nitrotpm_pcrs, NITROTPM_PCR_COUNT)):
        for index, value in (values or {}).items():
            if not 0 <= index < count:
                _refuse("expectations", f"there is no PCR{index}: registers are 0 to {count - 1}")
            if len(value) != PCR_SIZE:
                _refuse("expectations", f"the expected PCR{index} has {len(value)} bytes, not {PCR_SIZE}")
    if now is not None and now.tzinfo is None:
        _refuse("expectations", "the time to verify at has no time zone")
    if expect.max_age is not None and (now is None or expect.max_age < timedelta(0)):
        _refuse("expectations", "a greatest age is not negative and needs a time to compare with")


def _open(document: bytes) -> Sign1:
    try:
        envelope = Sign1.from_bytes(document)
    except CoseError as error:
        _refuse("envelope", error.message, error)
    if envelope.protected != _PROTECTED:
        _refuse("header", "the protected header is not exactly the algorithm ES384 (a1013822)")
    if envelope.unprotected:
        _refuse("header", "the unprotected header is not empty")
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
    """Hold the document's own time against its signer's life and the verifier's clock."""
    made = content.time.replace(microsecond=0)
    if not leaf.not_valid_before_utc <= made <= leaf.not_valid_after_utc:
        _refuse("timestamp", "the document's time lies outside the life of the certificate that signed it")
    age = now.astimezone(UTC) - content.time
    if age < -MAX_SKEW:
        _refuse("timestamp", f"the document's time is {-age} in the future")
    if max_age is not None and abs(age) > max_age:
        side = "old" if age > timedelta(0) else "in the future"
        _refuse("age", f"the document is {abs(age)} {side}, and {max_age} is allowed")


def _check_pcrs(content: Document, expect: Expected) -> None:
    """Compare every expected register; one that the document lacks does not match."""
    if expect.pcrs and content.nitrotpm:
        _refuse("pcrs", "an enclave's PCRs are expected, and this is a NitroTPM document")
    if expect.nitrotpm_pcrs and not content.nitrotpm:
        _refuse("pcrs", "a NitroTPM's PCRs are expected, and this is an enclave's document")
    for index, wanted in sorted((expect.pcrs or expect.nitrotpm_pcrs or {}).items()):
        found = content.pcrs.get(index)
        if found is None:
            _refuse("pcrs", f"PCR{index} is expected, and the document does not show it")
        if found != wanted:
            _refuse("pcrs", f"PCR{index} is {found.hex()}, not {bytes(wanted).hex()}")
