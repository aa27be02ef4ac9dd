"""The signature section: a certificate and a COSE_Sign1 over PCR0, both written as arrays of small integers.

Serde writes ``Vec<u8>`` that way, and AWS's reader refuses byte strings; so the section is about twice as
long as what it carries. The certificate may be self-signed: no chain is built, PCR8 names it. Spec:
nitro-tools 2.3.
"""

import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.cose import CborError, CoseError, Sign1, decode_cbor, encode_cbor
from cloister.eif.header import EifError

MAX_SIGNATURE: Final = 1 << 18
"""Bytes; a certificate of a few kilobytes and a signature of 132 bytes, doubled, fit many times over."""


class SignatureError(EifError):
    """The image's signature, or the key or certificate to sign with, is not acceptable."""


class PayloadMismatchError(SignatureError):
    """The signature is genuine but was made for another image."""


class CertificateExpiredError(SignatureError):
    """The signing certificate is not valid at the time of the check."""


@dataclass(frozen=True, slots=True)
class SignatureSection:
    """What the section holds; nothing here is verified until ``verify``."""

    certificate_pem: bytes
    cose: bytes
    """An untagged COSE_Sign1."""

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> "SignatureSection":
        """Decode the envelope; raises SignatureError."""
        if len(data) > MAX_SIGNATURE:
            raise SignatureError(
                f"The signature section is {len(data)} bytes long; expected at most {MAX_SIGNATURE}."
            )
        try:
            top = decode_cbor(bytes(data))
        except CborError as error:
            raise SignatureError(f"The signature section is not CBOR: {error}.") from error
        if not isinstance(top, list) or len(top) != 1 or not isinstance(top[0], dict):
            raise SignatureError("The signature section is not an array of one map.")
        if set(top[0]) != {"signing_certificate", "signature"}:
            raise SignatureError("The signature section's keys are not signing_certificate and signature.")
        return cls(_octets(top[0]["signing_certificate"]), _octets(top[0]["signature"]))

    def to_bytes(self) -> bytes:
        """Encode as AWS does."""
        return encode_cbor(
            [{"signing_certificate": list(self.certificate_pem), "signature": list(self.cose)}]
        )

    @property
    def certificate(self) -> x509.Certificate:
        """The signing certificate; raises SignatureError."""
        return load_signing_certificate(self.certificate_pem)

    @property
    def certificate_der(self) -> bytes:
        """What PCR8 is made of; raises SignatureError."""
        return self.certificate.public_bytes(Encoding.DER)

    def verify(self, pcr0: bytes, now: datetime | None = None) -> None:
        """Check signature, signed PCR0 and, given ``now``, the certificate's dates; raises SignatureError."""
        certificate = self.certificate
        try:
            envelope = Sign1.from_bytes(self.cose)
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
    """Sign with ES256, ES384 or ES512 by the key's curve; raises SignatureError, also on a foreign key."""
    certificate = load_signing_certificate(certificate_pem)
    if _ec_key(certificate) != private_key.public_key():
        raise SignatureError("The private key does not belong to the signing certificate.")
    try:
        envelope = Sign1.sign(encode_pcr_info(pcr0), private_key)
    except CoseError as error:
        raise SignatureError(f"The image cannot be signed: {error}.") from error
    section = SignatureSection(certificate_pem, envelope.to_bytes())
    section.verify(pcr0)
    return section


def encode_pcr_info(pcr0: bytes) -> bytes:
    """Return the COSE payload: which register is signed, and its value of 48 bytes."""
    return encode_cbor({"register_index": 0, "register_value": list(pcr0)})


def check_dates(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse a certificate before or after its validity; raises CertificateExpiredError."""
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= now <= last:
        raise CertificateExpiredError(
            f"The signing certificate is expired: it is valid from {first:%Y-%m-%dT%H:%M:%SZ} "
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
    return key


def _octets(value: Any) -> bytes:
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= 255 for item in value):
        raise SignatureError("The signature section holds something other than an array of small integers.")
    return bytes(value)
