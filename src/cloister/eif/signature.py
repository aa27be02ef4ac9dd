"""The signature section: a certificate and a COSE_Sign1 over PCR0, both written as arrays of small integers.

Serde writes ``Vec<u8>`` that way, and AWS's reader refuses byte strings; so the section is about twice as
long as what it carries. The certificate may be self-signed: no chain is built, PCR8 names it. Spec:
nitro-tools 2.3.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from cloister.cose import CborError, decode_cbor, encode_cbor
from cloister.eif.header import EifError

if TYPE_CHECKING:
    from cryptography import x509

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
    def certificate(self) -> "x509.Certificate":
        """The signing certificate; raises SignatureError."""
        from cloister.eif.signing import load_signing_certificate  # noqa: PLC0415 -- most images carry no signature

        return load_signing_certificate(self.certificate_pem)

    @property
    def certificate_der(self) -> bytes:
        """What PCR8 is made of; raises SignatureError."""
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 -- as above

        return self.certificate.public_bytes(Encoding.DER)

    def verify(self, pcr0: bytes, now: datetime | None = None) -> None:
        """Check signature, signed PCR0 and, given ``now``, the certificate's dates; raises SignatureError."""
        from cloister.eif.signing import verify_signature  # noqa: PLC0415 -- as above

        verify_signature(self, pcr0, now)


def _octets(value: Any) -> bytes:
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= 255 for item in value):
        raise SignatureError("The signature section holds something other than an array of small integers.")
    return bytes(value)
