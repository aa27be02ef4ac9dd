"""The certificate to sign with: an image carries it, PCR8 is its measurement."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from cloister.build import read_bounded
from cloister.eif import SignatureError, check_dates, check_key, load_signing_certificate

MAX_PEM: Final = 64 << 10
"""Bytes of a certificate's or key's file."""


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """A certificate that can sign now."""

    pem: bytes
    """The file as it is: the image carries all of it, and only its first certificate counts."""
    public_key: EllipticCurvePublicKey

    @classmethod
    def load(cls, path: Path, now: datetime) -> "SigningCertificate":
        """Read it and check dates and curve; raises SignatureError or BuildError."""
        pem = read_bounded(path, MAX_PEM)
        if b"PRIVATE KEY" in pem:
            raise SignatureError(
                f"The signing certificate's file {path} holds a private key too, which every copy of the "
                "image would carry: keep them in two files."
            )
        certificate = load_signing_certificate(pem)
        check_dates(certificate, now)
        public_key = certificate.public_key()
        assert isinstance(public_key, EllipticCurvePublicKey)  # or it would not have loaded
        return cls(pem, public_key)

    def check(self, public_key: object) -> None:
        """Refuse a key that is not this certificate's; raises SignatureError."""
        check_key(load_signing_certificate(self.pem), public_key)
