"""Keys and self-signed certificates to sign images with."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HASHES: dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class SigningFiles:
    """Two PEM files."""

    certificate: Path
    private_key: Path


def self_signed(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, days: int = 30) -> x509.Certificate:
    """Return a certificate valid from yesterday for some days; negative ones are in the past."""
    names = [(NameOID.COUNTRY_NAME, "CH"), (NameOID.COMMON_NAME, "image signer")]
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1 if days > 0 else 1 - days)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 7, start, start + timedelta(days=abs(days)))
        .sign(key, HASHES[key.curve.name] if isinstance(key, ec.EllipticCurvePrivateKey) else hashes.SHA256())
    )  # fmt: skip


def issued(
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, *, start: datetime | None = None
) -> bytes:
    """Return a certificate in PEM for a key that lies elsewhere, by an authority forgotten at once."""
    authority = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "image signer")])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    first = start or datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    certificate = x509.CertificateBuilder(issuer, subject, public_key, 8, first, first + timedelta(days=30))
    return certificate.sign(authority, hashes.SHA384()).public_bytes(Encoding.PEM)


def write_signing_files(
    directory: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, days: int = 30
) -> SigningFiles:
    """Write a key and its certificate."""
    directory.mkdir(exist_ok=True)
    files = SigningFiles(directory / "certificate.pem", directory / "key.pem")
    files.certificate.write_bytes(self_signed(key, days=days).public_bytes(Encoding.PEM))
    files.private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files
