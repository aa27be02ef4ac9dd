"""Attestation documents: model, sign, verify in numbered steps."""

from cloister.attestation.document import Document, DocumentError
from cloister.attestation.sign import Signer, sign
from cloister.attestation.verify import (
    MAX_DOCUMENT,
    STEPS,
    Expected,
    VerificationError,
    verify,
)

__all__ = [
    "MAX_DOCUMENT",
    "STEPS",
    "Document",
    "DocumentError",
    "Expected",
    "Signer",
    "VerificationError",
    "sign",
    "verify",
]
