"""One certificate of a chain, as both readers see it."""

from dataclasses import dataclass

from cryptography import x509

from cloister.pki.der import BasicConstraints, CertificateParts, KeyUsage


@dataclass(frozen=True, slots=True)
class Link:
    """A certificate as the library reads it, as we do, and what to call it."""

    title: str
    certificate: x509.Certificate
    parts: CertificateParts
    constraints: BasicConstraints | None
    usage: KeyUsage | None
