"""Other people's verifiers behind one question: a document, a root, a time.

Each is asked in a process of its own, so that one that crashes or hangs is an answer too.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID

from cloister.attestation import Document, DocumentError
from cloister.cose import CoseError, Sign1
from peers.building import Peers

HERE = Path(__file__).parent
NITRITE = "github.com/hf/nitrite"
VERACRUZ = "github.com/veracruz-project/go-nitro-enclave-attestation-document"
EVERVAULT = "evervault-attestation-bindings"
SECONDS = 60.0
"""For one document; every one of them takes less than one on an idle machine."""
IDENTITY = (
    "User data was not set in the attestation doc",
    "User data in attestation doc did not contain the certificate public key",
)
"""What Evervault's library says after chain and signature held: the document is not about this connection."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier said."""

    accepted: bool
    reason: str = ""
    crashed: bool = False
    """It ended without saying anything."""


class Verifier(Protocol):
    """One of them."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def version(self) -> str:
        """Which one it is."""

    def judge(self, document: bytes, *, root: Path, at: datetime) -> Verdict:
        """Ask it; ``root`` is a PEM file, ``at`` the time to judge at."""


@dataclass(frozen=True, slots=True)
class GoVerifier:
    """A Go module behind one of the programs in ``go/``."""

    name: str
    version: str
    program: Path

    def judge(self, document: bytes, *, root: Path, at: datetime) -> Verdict:
        """Ask it."""
        return _read(_ask([self.program, root, at.isoformat()], document))


@dataclass(frozen=True, slots=True)
class OpensslVerifier:
    """``openssl.sh``: the shell takes the document apart, openssl(1) judges."""

    name: str = "openssl"

    @property
    def version(self) -> str:
        """The program's version."""
        return _ask(["openssl", "version"], b"").stdout.decode().split()[1]

    def judge(self, document: bytes, *, root: Path, at: datetime) -> Verdict:
        """Ask it."""
        done = _ask([HERE / "openssl.sh", root, f"@{int(at.timestamp())}"], document)
        reason = done.stderr.decode(errors="replace").strip()
        return Verdict(done.returncode == 0, reason, crashed=done.returncode not in (0, 1))


@dataclass(frozen=True, slots=True)
class EvervaultVerifier:
    """Evervault's library; AWS's root is compiled into it, and it judges by a clock that is set for it."""

    clock: Path
    package: Path | None = None
    """Where to take the library from instead of this environment."""
    name: str = EVERVAULT

    @property
    def version(self) -> str:
        """The installed version."""
        return version(EVERVAULT)

    def judge(self, document: bytes, *, at: datetime) -> Verdict:
        """Ask it about a connection to the enclave: it wants a certificate that carries the document.

        Accepted means that chain and signature held, whether or not the document is about that certificate.
        """
        environment = {
            "LD_PRELOAD": str(self.clock),
            "FAKETIME": at.strftime("%Y-%m-%d %H:%M:%S"),
            "TZ": "UTC",
            "PYTHONPATH": str(self.package or ""),
        }
        words: list[str | Path] = [sys.executable, HERE / "evervault.py"]
        said = _read(_ask(words, connection_certificate(document), environment))
        held = said.reason.endswith(IDENTITY)
        return Verdict(said.accepted or held, said.reason, crashed=said.crashed)


def connection_certificate(document: bytes) -> bytes:
    """Return a TLS certificate, DER, with the document in a name; its key is user_data if that is a key.

    Nobody looks at the certificate's own signature.
    """
    key = ec.derive_private_key(1, ec.SECP256R1())
    public_key = key.public_key()
    try:
        found = load_der_public_key(Document.from_bytes(Sign1.from_bytes(document).payload).user_data or b"")
    except (CoseError, DocumentError, ValueError):
        found = public_key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(found if isinstance(found, ec.EllipticCurvePublicKey) else public_key)
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36500))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(f"{document.hex()}.localhost")]), critical=False
        )
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def pinned_verifiers(peers: Peers) -> list[Verifier]:
    """Return those that take the root from their caller."""
    return [
        GoVerifier("nitrite", peers.module_version(NITRITE), peers.directory / "nitrite"),
        GoVerifier("veracruz", peers.module_version(VERACRUZ), peers.directory / "veracruz"),
        OpensslVerifier(),
    ]


def _ask(
    words: Sequence[str | Path], question: bytes, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(word) for word in words],
        input=question,
        env=os.environ | (environment or {}),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )


def _read(done: subprocess.CompletedProcess[bytes]) -> Verdict:
    """Read the one line of JSON that a program answers with; without one it has crashed."""
    if done.returncode:
        return Verdict(False, done.stderr.decode(errors="replace").strip()[:300], crashed=True)
    answer = json.loads(done.stdout)
    return Verdict(answer["accepted"], answer.get("reason", ""))
