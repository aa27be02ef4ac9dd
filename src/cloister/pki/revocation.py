"""The operator's own list of revoked certificates (``security-checklist.md`` section 5.8)."""

from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.pki.der import CertificateParts


class Revocation(NamedTuple):
    """A certificate that no longer counts, named as revocation lists name it (RFC 5280, section 5.1.2.6).

    Not by its fingerprint: whoever has a certificate can make another of the same content, because each ECDSA
    signature (r, s) has a twin (r, n - s). The entries of a revocation list in hand become
    ``{Revocation(crl.issuer.public_bytes(), entry.serial_number) for entry in crl}``.
    """

    issuer: bytes
    """The issuer's distinguished name, DER, as it stands in the certificate."""
    serial: int

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Return the entry that revokes a certificate; raise ValueError for one that no chain may hold."""
        parts = CertificateParts.from_bytes(certificate.public_bytes(Encoding.DER))
        return cls(parts.issuer, parts.serial)
