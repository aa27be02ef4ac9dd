"""A small signed Debian archive on disk: packages, index, Release and its OpenPGP signature.

Debian repository format; RFC 9580 sections 5.2.3 and 5.5.2 for the version 4 packets, which gpgv still reads.
"""

import base64
import hashlib
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

CREATED = 1_700_000_000
RSA, SHA256_ID = 1, 8


@dataclass
class SigningKey:
    """An OpenPGP key that signs archives."""

    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def _body(self) -> bytes:
        numbers = self.key.public_key().public_numbers()
        return struct.pack(">BIB", 4, CREATED, RSA) + _mpi(numbers.n) + _mpi(numbers.e)

    @property
    def public(self) -> bytes:
        """The keyring: the key, a user id, and the key's own signature over both."""
        name = b"archive <archive@example.org>"
        covered = b"\x99" + struct.pack(">H", len(self._body)) + self._body
        covered += b"\xb4" + struct.pack(">I", len(name)) + name
        return _packet(6, self._body) + _packet(13, name) + self._signature(0x13, covered)

    def sign(self, document: bytes) -> str:
        """Return an armored detached signature."""
        text = base64.encodebytes(self._signature(0x00, document)).decode()
        return f"-----BEGIN PGP SIGNATURE-----\n\n{text}-----END PGP SIGNATURE-----\n"

    def _signature(self, kind: int, document: bytes) -> bytes:
        fingerprint = hashlib.sha1(b"\x99" + struct.pack(">H", len(self._body)) + self._body).digest()
        hashed = _subpacket(2, struct.pack(">I", CREATED)) + _subpacket(33, b"\x04" + fingerprint)
        hashed += _subpacket(27, b"\x03") if kind == 0x13 else b""  # may certify and sign
        head = struct.pack(">BBBBH", 4, kind, RSA, SHA256_ID, len(hashed)) + hashed
        covered = document + head + struct.pack(">BBI", 4, 0xFF, len(head))
        signature = self.key.sign(covered, padding.PKCS1v15(), SHA256())
        unhashed = _subpacket(16, fingerprint[-8:])
        body = head + struct.pack(">H", len(unhashed)) + unhashed
        body += hashlib.sha256(covered).digest()[:2] + _mpi(int.from_bytes(signature))
        return _packet(2, body)


def _mpi(value: int) -> bytes:
    return struct.pack(">H", value.bit_length()) + value.to_bytes((value.bit_length() + 7) // 8)


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0x80 | tag << 2 | 1]) + struct.pack(">H", len(body)) + body


def _subpacket(kind: int, body: bytes) -> bytes:
    return bytes([len(body) + 1, kind]) + body


def build_package(directory: Path, name: str, depends: str = "") -> str:
    """Build a tiny package with one file in the old /lib, and return its paragraph for the index."""
    tree = directory / "pool" / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "lib").mkdir()
    (tree / "lib" / name).write_text(name)
    control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@example.org>\n"
    control += f"Depends: {depends}\nRecommends: absent\n" if depends else ""
    control += "Description: t\n"
    (tree / "DEBIAN/control").write_text(control)
    deb = directory / "pool" / f"{name}_1.0_all.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(deb)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    shutil.rmtree(tree)
    content = deb.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return f"{control}Filename: pool/{deb.name}\nSize: {len(content)}\nSHA256: {digest}\n\n"


def build_archive(directory: Path, packages: dict[str, str]) -> Path:
    """Build a suite ``test`` with packages and what they depend on; return the keyring that verifies it."""
    key = SigningKey()
    suite = directory / "dists/test"
    index = suite / "main/binary-amd64/Packages"
    index.parent.mkdir(parents=True)
    index.write_text("".join(build_package(directory, name, needs) for name, needs in packages.items()))
    content = index.read_bytes()
    release = "Suite: test\nCodename: test\nArchitectures: amd64 all\nComponents: main\n"
    release += "Date: Tue, 14 Nov 2023 22:13:20 UTC\nSHA256:\n"
    release += f" {hashlib.sha256(content).hexdigest()} {len(content)} main/binary-amd64/Packages\n"
    (suite / "Release").write_text(release)
    (suite / "Release.gpg").write_text(key.sign(release.encode()))
    keyring = directory / "keyring.gpg"
    keyring.write_bytes(key.public)
    return keyring
