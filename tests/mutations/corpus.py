"""The documents that mutations start from: our own, the same every run, and genuine ones where at hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from cryptography import x509

from cloister.attestation import Document, Expected, VerificationError, verify
from cloister.pki import issue_leaf
from mutations.keys import key_of, rsa_spki, sign_certificate, sign_payload
from simulators.local_chain import MODULE_ID, NOW, REGION, der, issue_chain

ANY = Expected(any_pcrs=True, allow_debug=True)
NAMES = ("root", "regional", "zonal", "instance", "leaf")
VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"


@dataclass(frozen=True, slots=True)
class Subject:
    """A document, the roots it is held against, and what it says if it verifies."""

    name: str
    document: bytes
    roots: tuple[x509.Certificate, ...]
    now: datetime
    content: Document | None
    ours: bool


@dataclass(frozen=True, eq=False)
class Corpus:
    """Every subject, and the signed fields of our own certificates, root first."""

    subjects: tuple[Subject, ...]
    tbs: tuple[bytes, ...]

    @cached_property
    def ours(self) -> tuple[Subject, ...]:
        """The documents whose keys we hold."""
        return tuple(subject for subject in self.subjects if subject.ours)


def issuer_of(place: int) -> str:
    """Name the key that signs the certificate at a place of the chain, root first."""
    return NAMES[max(0, place - 1)]


def load_corpus(vectors: Path | None = VECTORS) -> Corpus:
    """Make our documents, and read the genuine ones if the directory is there."""
    chain = issue_chain(*(key_of(name) for name in NAMES[:4]), now=NOW)
    leaf = issue_leaf(
        chain.instance, key_of("leaf").public_key(), module_id=MODULE_ID, region=REGION, now=NOW
    )
    authorities = [x509.load_der_x509_certificate(certificate) for certificate in chain.cabundle]
    tbs = tuple(certificate.tbs_certificate_bytes for certificate in (*authorities, leaf))
    ders = [sign_certificate(fields, key_of(issuer_of(place))) for place, fields in enumerate(tbs)]
    roots = (x509.load_der_x509_certificate(ders[0]),)
    ours = [_local(name, content, roots) for name, content in _contents(ders)]
    return Corpus((*ours, *(_genuine(vectors) if vectors and vectors.is_dir() else ())), tbs)


def _contents(ders: Sequence[bytes]) -> list[tuple[str, Document]]:
    registers = {index: bytes(48) for index in range(16)} | {
        index: bytes([0x10 + index]) * 48 for index in (0, 1, 2, 4)
    }
    common = {"module_id": MODULE_ID, "certificate": ders[4], "cabundle": tuple(ders[:4])}
    timestamp = int(NOW.timestamp() * 1000)
    full = Document(
        **common,  # type: ignore[arg-type]  # three fields of three types
        timestamp=timestamp,
        pcrs=registers,
        public_key=rsa_spki("recipient"),
        user_data=b"user data",
        nonce=bytes(range(32)),
    )
    bare = Document(**common, timestamp=timestamp, pcrs=registers)  # type: ignore[arg-type]
    sparse = {0: registers[0], 8: registers[4], 31: bytes(48)}
    tpm = {index: bytes([index]) * 48 for index in range(24)}
    return [
        ("ours, indefinite map", full),
        ("ours, definite map", full),
        ("ours, bare", bare),
        ("ours, sparse", Document(**common, timestamp=timestamp, pcrs=sparse, nonce=b"")),  # type: ignore[arg-type]
        ("ours, NitroTPM", Document(**common, timestamp=timestamp, pcrs=tpm, nitrotpm=True)),  # type: ignore[arg-type]
    ]


def _local(name: str, content: Document, roots: tuple[x509.Certificate, ...]) -> Subject:
    payload = content.to_bytes(indefinite="definite" not in name)
    document = sign_payload(payload, key_of("leaf"))
    assert verify(document, roots=roots, now=NOW, expect=ANY) == content
    return Subject(name, document, roots, NOW, content, ours=True)


def _genuine(vectors: Path) -> list[Subject]:
    roots = (x509.load_pem_x509_certificate((vectors / "aws-nitro-root-g1.pem").read_bytes()),)
    subjects = []
    for entry in json.loads((vectors / "attestation/manifest.json").read_text()):
        document = (vectors / entry["file"]).read_bytes()
        try:
            content = verify(document, roots=roots, now=None, expect=ANY)
        except VerificationError:  # one has a bad signature: it is spliced into others, and never accepted
            content = None
        now = content.time if content else NOW
        subjects.append(Subject(Path(entry["file"]).stem, document, roots, now, content, ours=False))
    return subjects


def own_certificates(corpus: Corpus) -> list[bytes]:
    """Return our chain as certificates, root first."""
    content = corpus.ours[0].content
    assert content is not None
    return [*content.cabundle, content.certificate]


__all__ = ["ANY", "NAMES", "NOW", "Corpus", "Subject", "der", "issuer_of", "load_corpus", "own_certificates"]
