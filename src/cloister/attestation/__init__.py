"""Attestation documents: model, sign, verify in numbered steps."""

from cloister.attestation.document import Document, DocumentError
from cloister.attestation.expected import Expected
from cloister.attestation.sign import Signer, sign
from cloister.attestation.verify import MAX_DOCUMENT, STEPS, VerificationError, verify
from cloister.pki import CertificateCache, Revocation, RootsError, load_roots

__all__ = [
    "MAX_DOCUMENT",
    "STEPS",
    "CertificateCache",
    "Document",
    "DocumentError",
    "Expected",
    "Revocation",
    "RootsError",
    "Signer",
    "VerificationError",
    "load_roots",
    "sign",
    "verify",
]
