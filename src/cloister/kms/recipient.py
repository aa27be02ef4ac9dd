"""Recipient: admit an attestation document, offer its facts to policies, seal the answer to its key.

Follows the KMS API reference, RecipientInfo, and the developer guide, "Condition keys for attested
platforms".
Everything here speaks of a verified document; there is no way to have a Recipient without one.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cloister.attestation import CertificateCache, Document, Expected, VerificationError, verify
from cloister.aws import Fault
from cloister.cms import IV_SIZE, KEY_SIZE, seal

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 4096
LOGGED_PCRS = (0, 1, 2, 3, 4, 8)  # those that CloudTrail records


@dataclass(frozen=True, slots=True)
class Trust:
    """Which roots may stand behind a document, and how old it may be."""

    roots: Callable[[datetime], Sequence[x509.Certificate]]
    """Asked at each document, so that a root that was replaced is known at once."""
    max_age: timedelta = timedelta(seconds=300)
    cache: CertificateCache = field(default_factory=CertificateCache, repr=False, compare=False)
    """An enclave asks for many things under one certificate, which lives for three hours."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """The holder of the key in a verified attestation document."""

    document: Document
    public_key: RSAPublicKey
    spki: bytes

    @classmethod
    def admit(cls, info: dict[str, Any], trust: Trust, now: datetime) -> "Recipient":
        """Verify the document of a RecipientInfo; raises Fault ValidationException."""
        blob = info.get("AttestationDocument")
        if blob is None or info.get("KeyEncryptionAlgorithm") is None:
            raise Fault(
                "ValidationException",
                "Recipient must have both AttestationDocument and KeyEncryptionAlgorithm.",
            )
        # Any registers, debug ones too: the key's policy judges them, by the condition keys below.
        expect = Expected(any_pcrs=True, allow_debug=True, max_age=trust.max_age)
        try:
            document = verify(blob, roots=trust.roots(now), now=now, expect=expect, cache=trust.cache)
        except VerificationError as error:
            raise Fault("ValidationException", f"The attestation document is not valid: {error}") from error
        spki = document.public_key
        return cls(document=document, public_key=_rsa_key(spki), spki=spki or b"")

    def seal(self, plaintext: bytes) -> bytes:
        """Return the CiphertextForRecipient of a plaintext."""
        key, iv = secrets.token_bytes(KEY_SIZE), secrets.token_bytes(IV_SIZE)
        return seal(plaintext, self.public_key, spki=self.spki, key=key, iv=iv)

    def condition_keys(self) -> dict[str, tuple[str, ...]]:
        """Return the kms:RecipientAttestation keys, lower-case hexadecimal values."""
        family = "NitroTPMPCR" if self.document.nitrotpm else "PCR"
        values = {index: value.hex() for index, value in self.document.pcrs.items()}
        keys: dict[str, tuple[str, ...]] = {
            f"kms:RecipientAttestation:{family}{index}": (value,) for index, value in values.items()
        }
        if 0 in values and not self.document.nitrotpm:
            keys["kms:RecipientAttestation:ImageSha384"] = (values[0],)
        return keys

    def summary(self) -> dict[str, Any]:
        """Return what the decision log keeps of the document: of the registers, those that were ever set."""
        pcrs = self.document.pcrs
        return {
            "moduleId": self.document.module_id,
            "time": self.document.time.isoformat(),
            "imageDigest": "" if self.document.nitrotpm else pcrs.get(0, b"").hex(),
            "pcrs": {str(i): pcrs[i].hex() for i in sorted(pcrs) if i in LOGGED_PCRS or any(pcrs[i])},
            "debug": self.document.debug,
        }


def _rsa_key(spki: bytes | None) -> RSAPublicKey:
    """Load the document's public key; raises Fault ValidationException unless it is RSA of a sane size."""
    refusal = Fault(
        "ValidationException",
        f"The attestation document must hold an RSA public key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits "
        "as DER SubjectPublicKeyInfo.",
    )
    try:
        key = load_der_public_key(spki or b"")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refusal from error
    if not isinstance(key, RSAPublicKey) or not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise refusal
    return key
