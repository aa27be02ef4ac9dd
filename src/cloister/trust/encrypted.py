"""A private key under a passphrase: PKCS #8 with PBES2 (RFC 8018), which ``openssl pkey`` reads.

The library writes it too, but with 2048 rounds of PBKDF2, which rented machines try by the million a second;
here it is OWASP's figure for HMAC-SHA-512. Reading is the library's.
"""

import os
from base64 import encodebytes
from typing import Final

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ROUNDS: Final = 210_000
_SEQUENCE, _INTEGER, _OCTET_STRING, _NULL = 0x30, 0x02, 0x04, b"\x05\x00"
# Object identifiers, DER: PBES2, PBKDF2, hmacWithSHA512, aes256-CBC (RFC 8018, appendix A; RFC 3565)
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA512 = bytes.fromhex("06082a864886f70d020b")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")


def encrypt_key(key: ec.EllipticCurvePrivateKey, passphrase: bytes, *, rounds: int = ROUNDS) -> bytes:
    """Return a private key in PEM, encrypted under a passphrase."""
    salt, vector = os.urandom(16), os.urandom(16)
    secret = PBKDF2HMAC(hashes.SHA512(), 32, salt, rounds).derive(passphrase)
    padder = padding.PKCS7(128).padder()
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    encryptor = Cipher(algorithms.AES256(secret), modes.CBC(vector)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    count = rounds.to_bytes(rounds.bit_length() // 8 + 1, "big")
    derivation = _element(
        _SEQUENCE,
        _element(_OCTET_STRING, salt),
        _element(_INTEGER, count),
        _element(_SEQUENCE, _HMAC_SHA512, _NULL),
    )
    scheme = _element(
        _SEQUENCE,
        _element(_SEQUENCE, _PBKDF2, derivation),
        _element(_SEQUENCE, _AES_256_CBC, _element(_OCTET_STRING, vector)),
    )
    info = _element(_SEQUENCE, _element(_SEQUENCE, _PBES2, scheme), _element(_OCTET_STRING, sealed))
    return (
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        + encodebytes(info)
        + b"-----END ENCRYPTED PRIVATE KEY-----\n"
    )


def _element(tag: int, *parts: bytes) -> bytes:
    """Return a DER element (X.690, 8.1), its length in the shortest form."""
    content = b"".join(parts)
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    head = bytes([tag]) if size < 0x80 else bytes([tag, 0x80 | len(length)])
    return head + length + content
