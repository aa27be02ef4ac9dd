"""Certificates in PEM, each after what signs for it: a private key, or the address of one on a token.

Every file of the root of trust that holds a key is a list of these, so that key and certificate can never
disagree, and so that an old and a new authority can stand in one file while one takes the other's place.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cloister.pki import Authority
from cloister.trust.encrypted import encrypt_key
from cloister.trust.files import TrustError, read, write
from cloister.trust.token import Pin, TokenKey, no_pin

_TOKEN = b"pkcs11:"


@dataclass(frozen=True, slots=True)
class KeyedCertificate:
    """A certificate and, unopened, what signs for it."""

    certificate: x509.Certificate
    secret: bytes = b""
    """A private key in PEM, a PKCS#11 URI (RFC 7512), or nothing."""

    @property
    def uri(self) -> str | None:
        """The key's address, if it lies on a token."""
        return self.secret.decode("ascii", "replace") if self.secret.startswith(_TOKEN) else None

    @property
    def encrypted(self) -> bool:
        """Whether a passphrase is needed."""
        return self.secret.startswith(b"-----BEGIN ENCRYPTED")

    def open(self, *, passphrase: bytes | None = None, pin: Pin = no_pin) -> Authority:
        """Return the authority, its key of the certificate's own; raise TrustError."""
        if self.uri is not None:
            return Authority(TokenKey(self.uri, _public_key(self.certificate), pin), self.certificate)
        if not self.secret:
            raise TrustError(f"there is no key for {name_of(self.certificate)}")
        if self.encrypted and passphrase is None:
            raise TrustError(f"the key of {name_of(self.certificate)} is encrypted: give its passphrase")
        try:
            key = load_pem_private_key(self.secret, passphrase if self.encrypted else None)
        except (ValueError, TypeError) as error:
            cause = "the passphrase is wrong, or the key is damaged" if self.encrypted else "it is damaged"
            raise TrustError(f"the key of {name_of(self.certificate)} cannot be read: {cause}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != _public_key(
            self.certificate
        ):
            raise TrustError(f"the key beside the certificate {name_of(self.certificate)} is another one's")
        return Authority(key, self.certificate)


def keyed(authority: Authority, *, passphrase: bytes | None = None) -> KeyedCertificate:
    """Return an authority as it is written, its key encrypted under the passphrase if there is one."""
    if isinstance(authority.key, TokenKey):
        return KeyedCertificate(authority.certificate, authority.key.uri.encode())
    if passphrase is not None:
        return KeyedCertificate(authority.certificate, encrypt_key(authority.key, passphrase))
    pem = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyedCertificate(authority.certificate, pem)


def split(content: bytes) -> list[KeyedCertificate]:
    """Return the certificates in a text, each with the key before it; all else is passed over."""
    found: list[KeyedCertificate] = []
    secret, block = b"", b""
    lines: list[bytes] = []
    for line in content.splitlines(keepends=True):
        if line.startswith(_TOKEN):
            secret = line.strip()
        elif line.startswith(b"-----BEGIN "):
            lines = [line]
        elif lines:
            lines.append(line)
            if line.startswith(b"-----END "):
                block, lines = b"".join(lines), []
                if b"PRIVATE KEY" in block.splitlines()[0]:
                    secret = block
                elif (certificate := _certificate(block)) is not None:
                    found.append(KeyedCertificate(certificate, secret))
                    secret = b""
    return found


def join(entries: Iterable[KeyedCertificate]) -> bytes:
    """Return the text of some certificates with their keys."""
    parts = (
        part
        for entry in entries
        for part in (entry.secret.rstrip(), entry.certificate.public_bytes(Encoding.PEM).rstrip())
        if part
    )
    return b"".join(part + b"\n" for part in parts)


def read_keyed(path: Path) -> list[KeyedCertificate]:
    """Return what is whole in a file, which need not be there."""
    return split(read(path) or b"")


def write_keyed(path: Path, entries: Iterable[KeyedCertificate]) -> None:
    """Put a file in place."""
    write(path, join(entries))


def name_of(certificate: x509.Certificate) -> str:
    """Return a certificate's common name, or what else it is called, without what could drive a terminal."""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    name = str(names[0].value) if names else certificate.subject.rfc4514_string()
    return "".join(char if char.isprintable() else "?" for char in name)


def _public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    try:
        key = certificate.public_key()
    except (ValueError, TypeError) as error:
        raise TrustError(f"the public key of {name_of(certificate)} cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TrustError(f"the key of {name_of(certificate)} is not on an elliptic curve")
    return key


def _certificate(block: bytes) -> x509.Certificate | None:
    try:
        certificate = x509.load_pem_x509_certificate(block)
        _ = (
            certificate.subject,
            certificate.issuer,
        )  # a name that cannot be read is found only when it is asked for
    except ValueError:
        return None
    return certificate
