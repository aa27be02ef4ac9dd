"""Sign PCR0 with a certificate's key, and check such a signature. Spec: nitro-tools 2.3.

Apart from ``signature``, because most images carry none and what boots them need not load the cryptography.
"""

import warnings
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from cloister.cose import ALGORITHMS, CoseError, Sign1, SignDigest, encode_cbor
from cloister.eif.signature import (
    CertificateExpiredError,
    PayloadMismatchError,
    SignatureError,
    SignatureSection,
)

_CURVES: Final = frozenset(algorithm.curve for algorithm in ALGORITHMS)


def verify_signature(section: SignatureSection, pcr0: bytes, now: datetime | None = None) -> None:
    """Check signature, signed PCR0 and, given ``now``, the certificate's dates; raises SignatureError."""
    certificate = load_signing_certificate(section.certificate_pem)
    try:
        envelope = Sign1.from_bytes(section.cose)
        envelope.verify(_ec_key(certificate))
    except CoseError as error:
        raise SignatureError(f"The EIF signature is not valid: {error}.") from error
    if envelope.payload != encode_pcr_info(pcr0):
        raise PayloadMismatchError(
            f"The EIF signature is for another image: it does not sign PCR0 {pcr0.hex()}."
        )
    if now is not None:
        check_dates(certificate, now)


def sign_pcr0(pcr0: bytes, certificate_pem: bytes, private_key: EllipticCurvePrivateKey) -> SignatureSection:
    """Sign with ES256, ES384 or ES512 by the key's curve; raises SignatureError, also on a foreign key.

    The same image and key give the same signature: decision 0159.
    """
    certificate = load_signing_certificate(certificate_pem)
    check_key(certificate, private_key.public_key())
    try:
        envelope = Sign1.sign(encode_pcr_info(pcr0), private_key, deterministic=True)
    except CoseError as error:
        raise SignatureError(f"The image cannot be signed: {error}.") from error
    section = SignatureSection(certificate_pem, envelope.to_bytes())
    verify_signature(section, pcr0)
    return section


def sign_pcr0_elsewhere(pcr0: bytes, certificate_pem: bytes, sign_digest: SignDigest) -> SignatureSection:
    """Have a key sign that is not at hand; raises SignatureError, also on a foreign key's signature."""
    public_key = _ec_key(load_signing_certificate(certificate_pem))
    envelope = Sign1.sign_elsewhere(encode_pcr_info(pcr0), public_key.curve, sign_digest)
    section = SignatureSection(certificate_pem, envelope.to_bytes())
    try:
        verify_signature(section, pcr0)
    except SignatureError as error:
        raise SignatureError(
            "The private key does not belong to the signing certificate: its signature does not verify."
        ) from error
    return section


def check_key(certificate: x509.Certificate, public_key: object) -> None:
    """Refuse a key that is not the certificate's; raises SignatureError."""
    if _ec_key(certificate) != public_key:
        raise SignatureError("The private key does not belong to the signing certificate.")


def encode_pcr_info(pcr0: bytes) -> bytes:
    """Return the COSE payload: which register is signed, and its value of 48 bytes."""
    return encode_cbor({"register_index": 0, "register_value": list(pcr0)})


def check_dates(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse a certificate before or after its validity; raises CertificateExpiredError."""
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= now <= last:
        state = "not valid yet" if now < first else "expired"
        raise CertificateExpiredError(
            f"The signing certificate is {state}: it is valid from {first:%Y-%m-%dT%H:%M:%SZ} "
            f"to {last:%Y-%m-%dT%H:%M:%SZ}."
        )


def load_signing_certificate(pem: bytes) -> x509.Certificate:
    """Read the first certificate of a PEM file and insist on an elliptic-curve key; raises SignatureError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what the library merely warns about, we do not sign with
            certificate = x509.load_pem_x509_certificate(pem)
            # read now what is read lazily, so that nothing later meets a surprise
            _ = certificate.issuer, certificate.subject, certificate.serial_number
            _ = (
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
                certificate.signature_algorithm_oid,
            )
    except (ValueError, Warning, x509.InvalidVersion):
        raise SignatureError("The signing certificate is not a PEM certificate.") from None
    _ec_key(certificate)
    return certificate


def _ec_key(certificate: x509.Certificate) -> EllipticCurvePublicKey:
    try:
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey):
        raise SignatureError(
            "The signing certificate's key is not an elliptic-curve key (P-256, P-384 or P-521)."
        )
    if key.curve.name not in _CURVES:
        raise SignatureError(
            f"The signing certificate's key is on the curve {key.curve.name}: expected P-256, P-384 or P-521."
        )
    return key
