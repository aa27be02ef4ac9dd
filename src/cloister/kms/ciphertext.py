"""CiphertextBlob: what Encrypt returns and Decrypt takes.

Layout, version 1: ``01 | length of key id | key id (ASCII) | generation (u32 BE) | salt (16) | nonce (12) |
AES-256-GCM ciphertext and tag``. The AES key is HKDF-Expand (RFC 5869) of the key's material over the salt,
so that one KMS key may encrypt without counting; all that precedes the ciphertext, and the encryption
context, is associated data.
"""

import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from cloister.aws import Fault
from cloister.kms.keys import Material

VERSION = 1
SALT_SIZE = 16
NONCE_SIZE = 12
TAG_SIZE = 16
MAX_CONTEXT = 8192  # bytes, AWS KMS developer guide, "Encryption context"
_LABEL = b"cloister kms ciphertext v1 "


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """A parsed blob: which key it needs, and its sealed content."""

    key_id: str
    generation: int
    header: bytes
    salt: bytes
    nonce: bytes
    sealed: bytes

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Ciphertext":
        """Parse a blob; raises Fault InvalidCiphertextException, with an empty message as AWS."""
        if len(blob) < 2 or blob[0] != VERSION:
            raise Fault("InvalidCiphertextException")
        fixed = 2 + blob[1]
        start = fixed + 4 + SALT_SIZE + NONCE_SIZE
        if len(blob) < start + TAG_SIZE or not blob[2:fixed].isascii():
            raise Fault("InvalidCiphertextException")
        (generation,) = struct.unpack_from(">I", blob, fixed)
        return cls(
            key_id=blob[2:fixed].decode("ascii"),
            generation=generation,
            header=blob[:start],
            salt=blob[fixed + 4 : fixed + 4 + SALT_SIZE],
            nonce=blob[fixed + 4 + SALT_SIZE : start],
            sealed=blob[start:],
        )

    def open(self, material: Material, context: Mapping[str, str]) -> bytes:
        """Decrypt; raises Fault InvalidCiphertextException when anything differs, the context included."""
        try:
            aead = _cipher(material, self.salt)
            return aead.decrypt(self.nonce, self.sealed, self.header + encode_context(context))
        except InvalidTag as error:
            raise Fault("InvalidCiphertextException") from error


def encrypt(key_id: str, material: Material, plaintext: bytes, context: Mapping[str, str]) -> bytes:
    """Return the CiphertextBlob of a plaintext under one key and encryption context."""
    name = key_id.encode("ascii")
    salt, nonce = secrets.token_bytes(SALT_SIZE), secrets.token_bytes(NONCE_SIZE)
    header = bytes((VERSION, len(name))) + name + struct.pack(">I", material.generation) + salt + nonce
    return header + _cipher(material, salt).encrypt(nonce, plaintext, header + encode_context(context))


def encode_context(context: Mapping[str, str]) -> bytes:
    """Return the encryption context in one canonical form: sorted, every part preceded by its length."""
    parts = (text.encode() for pair in sorted(context.items()) for text in pair)
    encoded = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    if len(encoded) > MAX_CONTEXT:
        raise Fault("ValidationException", f"The encryption context is larger than {MAX_CONTEXT} bytes.")
    return encoded


def _cipher(material: Material, salt: bytes) -> AESGCM:
    return AESGCM(HKDFExpand(SHA256(), length=32, info=_LABEL + salt).derive(material.secret))
