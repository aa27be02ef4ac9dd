"""The root key: a file of 32 bytes under which everything secret in the store is sealed.

AES-256-GCM (NIST SP 800-38D) with random nonces and the owner's name as associated data, so that sealed
values cannot change places. The file is 0600; whoever reads it and the database reads every key.
"""

import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloister.errors import CloisterError

SIZE = 32
NONCE_SIZE = 12
VERSION = b"\x01"


class RootKeyError(CloisterError):
    """The root key is absent, readable by others, malformed, or does not open what it should."""


class RootKey:
    """Seals and opens what the store keeps."""

    def __init__(self, key: bytes) -> None:
        if len(key) != SIZE:
            raise RootKeyError(f"the KMS root key has {len(key)} bytes, not {SIZE}")
        self._aead = AESGCM(key)

    @classmethod
    def create(cls, path: Path) -> "RootKey":
        """Write a new root key file, durably; raises FileExistsError rather than replace one."""
        key = secrets.token_bytes(SIZE)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        return cls(key)

    @classmethod
    def read(cls, path: Path) -> "RootKey":
        """Read the root key file; raises RootKeyError when others could read it too."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise RootKeyError(f"the KMS root key {path} cannot be read ({error.strerror})") from error
        with os.fdopen(descriptor, "rb") as file:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & 0o077:
                raise RootKeyError(f"the KMS root key {path} has mode {mode:04o}; 0600 is expected")
            return cls(file.read(SIZE + 1))

    def seal(self, secret: bytes, owner: str) -> bytes:
        """Encrypt a secret for storage in its owner's row."""
        nonce = secrets.token_bytes(NONCE_SIZE)
        return VERSION + nonce + self._aead.encrypt(nonce, secret, owner.encode())

    def open(self, sealed: bytes, owner: str) -> bytes:
        """Decrypt a stored secret; raises RootKeyError."""
        nonce, content = sealed[1 : 1 + NONCE_SIZE], sealed[1 + NONCE_SIZE :]
        try:
            if sealed[:1] == VERSION:
                return self._aead.decrypt(nonce, content, owner.encode())
        except (InvalidTag, ValueError):
            pass
        raise RootKeyError(f"the secret of {owner} does not open with this KMS root key")
