"""A private key in a PEM file."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cloister.build import read_bounded
from cloister.eif import SignatureError, SignatureSection, sign_pcr0
from cloister.signers.certificate import MAX_PEM, SigningCertificate


@dataclass(frozen=True, slots=True, repr=False)
class PemSigner:
    """A certificate and a private key from files; it does not show itself in logs."""

    certificate: SigningCertificate
    private_key: EllipticCurvePrivateKey

    @classmethod
    def load(cls, certificate: Path, private_key: Path, now: datetime) -> "PemSigner":
        """Read both and check that they can sign now; raises SignatureError or BuildError."""
        return cls.open(SigningCertificate.load(certificate, now), private_key)

    @classmethod
    def open(cls, certificate: SigningCertificate, private_key: Path) -> "PemSigner":
        """Read the key, which must be the certificate's; raises SignatureError or BuildError."""
        try:
            key = load_pem_private_key(read_bounded(private_key, MAX_PEM), password=None)
        except TypeError:
            raise SignatureError(
                f"The private key {private_key} is encrypted, which is not supported."
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            raise SignatureError(f"The private key {private_key} is not a PEM private key.") from None
        if not isinstance(key, EllipticCurvePrivateKey):
            raise SignatureError(
                f"The private key {private_key} is not an elliptic-curve key (P-256, P-384 or P-521)."
            )
        certificate.check(key.public_key())
        return cls(certificate, key)

    def sign(self, pcr0: bytes) -> SignatureSection:
        """Sign; raises SignatureError."""
        return sign_pcr0(pcr0, self.certificate.pem, self.private_key)
