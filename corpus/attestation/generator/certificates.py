"""Certificates in parts: issued by `cloister.pki`, taken apart, changed, and signed again."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from corpus.attestation.generator.encodings import (
    BIT_STRING,
    BOOLEAN,
    OBJECT,
    OCTET_STRING,
    SEQUENCE,
    content,
    der,
    elements,
)
from corpus.attestation.generator.keys import sign_der

# AlgorithmIdentifiers (RFC 5758, section 3.2) and object identifiers (RFC 5280, section 4.2), DER
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
BASIC_CONSTRAINTS = bytes.fromhex("551d13")
KEY_USAGE = bytes.fromhex("551d0f")
SUBJECT_KEY = bytes.fromhex("551d0e")
AUTHORITY_KEY = bytes.fromhex("551d23")
TRUE = der(BOOLEAN, b"\xff")


@dataclass(frozen=True)
class Extension:
    """One extension: its identifier, the critical flag as it is written (or nothing), and its value."""

    oid: bytes
    critical: bytes
    value: bytes

    def to_der(self) -> bytes:
        """Write it."""
        return der(SEQUENCE, der(OBJECT, self.oid), self.critical, der(OCTET_STRING, self.value))


@dataclass(frozen=True)
class Certificate:
    """The parts of a certificate as DER, in the order of RFC 5280 section 4.1, and how it is signed."""

    version: bytes
    serial: bytes
    inner: bytes
    issuer: bytes
    not_before: bytes
    not_after: bytes
    subject: bytes
    public_key: bytes
    extensions: tuple[Extension, ...]
    extra: bytes = b""
    """What stands between the key and the extensions."""
    after: bytes = b""
    """What follows the extensions."""
    outer: bytes = ECDSA_SHA384
    hash: type[hashes.HashAlgorithm] = hashes.SHA384
    unused_bits: bytes = b"\x00"
    signed: Callable[[bytes], bytes] = bytes
    """Changes the DER signature."""
    final: Callable[[bytes], bytes] = bytes
    """Changes the whole certificate, after it was signed."""

    @classmethod
    def from_issued(cls, certificate: x509.Certificate) -> "Certificate":
        """Take an issued certificate apart."""
        parts = elements(content(certificate.tbs_certificate_bytes))
        version, serial, inner, issuer, validity, subject, public_key, extensions = parts
        not_before, not_after = elements(content(validity))
        return cls(
            version=version,
            serial=serial,
            inner=inner,
            issuer=issuer,
            not_before=not_before,
            not_after=not_after,
            subject=subject,
            public_key=public_key,
            extensions=tuple(map(_extension, elements(content(content(extensions))))),
        )

    def to_be_signed(self) -> bytes:
        """Write the signed part."""
        extensions = der(0xA3, der(SEQUENCE, *(extension.to_der() for extension in self.extensions)))
        return der(
            SEQUENCE,
            self.version,
            self.serial,
            self.inner,
            self.issuer,
            der(SEQUENCE, self.not_before, self.not_after),
            self.subject,
            self.public_key,
            self.extra,
            extensions if self.extensions else b"",
            self.after,
        )

    def to_der(self, signer: ec.EllipticCurvePrivateKey) -> bytes:
        """Sign and write it."""
        body = self.to_be_signed()
        signature = self.signed(sign_der(signer, body, self.hash))
        return self.final(der(SEQUENCE, body, self.outer, der(BIT_STRING, self.unused_bits, signature)))

    def extension(self, oid: bytes) -> Extension:
        """Return the extension of an identifier."""
        return next(extension for extension in self.extensions if extension.oid == oid)

    def without(self, oid: bytes) -> "Certificate":
        """Drop an extension."""
        return replace(
            self, extensions=tuple(extension for extension in self.extensions if extension.oid != oid)
        )

    def with_extension(self, changed: Extension) -> "Certificate":
        """Exchange the extension of the same identifier, or add this one at the end."""
        if changed.oid not in [extension.oid for extension in self.extensions]:
            return replace(self, extensions=(*self.extensions, changed))
        return replace(
            self, extensions=tuple(changed if old.oid == changed.oid else old for old in self.extensions)
        )


def _extension(element: bytes) -> Extension:
    oid, *critical, value = elements(content(element))
    return Extension(content(oid), b"".join(critical), content(value))


def public_key_info(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a SubjectPublicKeyInfo: named curve, uncompressed point (RFC 5480)."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def to_pem(certificate: bytes) -> str:
    """Write a certificate as PEM."""
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()
