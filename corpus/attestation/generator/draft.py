"""A document in the making: every part can be exchanged before what stands above it is signed."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.pki import Authority, issue_instance, issue_leaf, issue_regional, issue_root, issue_zonal
from corpus.attestation.generator.certificates import Certificate, public_key_info
from corpus.attestation.generator.encodings import Raw, cbor, pairs
from corpus.attestation.generator.keys import digest, key, sign_raw

ISSUED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MADE = ISSUED + timedelta(seconds=60, milliseconds=250)
NOW = ISSUED + timedelta(seconds=120)
"""When every document is verified, unless its case says otherwise."""
REGION = "eu-central-1"
INSTANCE_ID = "i-0c0ffee0c0ffee000"
MODULE_ID = f"{INSTANCE_ID}-enc{int(ISSUED.timestamp() * 1000) << 16:016x}"
PROTECTED = bytes.fromhex("a1013822")  # {1: -35}: ES384
AUTHORITIES = ("root", "regional", "zonal", "instance")
PCRS = {
    index: digest(f"pcr/{index}", 48) if index in {0, 1, 2, 3, 4, 8} else bytes(48) for index in range(16)
}


@dataclass
class Link:
    """A certificate in the making, its key, and the name of the link that signs it."""

    certificate: Certificate
    key: ec.EllipticCurvePrivateKey
    issuer: str


@cache
def _issued(family: str) -> tuple[tuple[str, x509.Certificate], ...]:
    """Issue a chain in the genuine shapes; each family has keys of its own under the same names."""
    keys = {name: key(f"{family}{name}") for name in (*AUTHORITIES, "leaf")}
    serials = {name: int.from_bytes(digest(f"serial/{family}{name}", 15), "big") for name in AUTHORITIES}
    shape: dict[str, Any] = {"region": REGION, "now": ISSUED}
    root = issue_root(keys["root"], serial=serials["root"], now=ISSUED)
    regional = issue_regional(
        Authority(keys["root"], root),
        keys["regional"].public_key(),
        label=digest("label/regional", 8).hex(),
        serial=serials["regional"],
        crl_id=digest("crl/regional", 16),
        **shape,
    )
    zonal = issue_zonal(
        Authority(keys["regional"], regional),
        keys["zonal"].public_key(),
        label=digest("label/zonal", 8).hex(),
        serial=serials["zonal"],
        crl_id=digest("crl/zonal", 16),
        **shape,
    )
    instance = issue_instance(
        Authority(keys["zonal"], zonal),
        keys["instance"].public_key(),
        instance_id=INSTANCE_ID,
        serial=serials["instance"],
        **shape,
    )
    leaf = issue_leaf(
        Authority(keys["instance"], instance), keys["leaf"].public_key(), module_id=MODULE_ID, **shape
    )
    found = (root, regional, zonal, instance, leaf)
    return tuple(zip((*AUTHORITIES, "leaf"), found, strict=True))


def chain(family: str = "") -> dict[str, Link]:
    """Return the links of a chain, root first."""
    names = [name for name, _ in _issued(family)]
    issuers = ["root", *names[:-1]]
    return {
        name: Link(Certificate.from_issued(certificate), key(f"{family}{name}"), issuer)
        for (name, certificate), issuer in zip(_issued(family), issuers, strict=True)
    }


def milliseconds(moment: datetime) -> int:
    """Return a time as documents have it."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def indefinite(fields: dict[Any, Any]) -> bytes:
    """Write the payload as AWS does since June 2025."""
    return b"\xbf" + pairs(fields) + b"\xff"


def definite(fields: dict[Any, Any]) -> bytes:
    """Write the payload as AWS did before."""
    return cbor(fields)


@dataclass
class Draft:
    """A right document until something is changed; functions change bytes at the stage they are named for."""

    name: str
    chain: dict[str, Link] = field(default_factory=chain)
    bundle: list[str | bytes] = field(default_factory=lambda: list(AUTHORITIES))
    leaf: str = "leaf"
    trusted: str | bytes = "root"
    fields: dict[Any, Any] = field(default_factory=dict)
    write: Callable[[dict[Any, Any]], bytes] = indefinite
    payload: Callable[[bytes], bytes] = bytes
    protected: bytes = PROTECTED
    unprotected: Any = field(default_factory=dict)
    signer: ec.EllipticCurvePrivateKey | None = None
    hash: type[hashes.HashAlgorithm] = hashes.SHA384
    to_be_signed: Callable[["Draft", bytes], bytes] = lambda draft, payload: sig_structure(
        draft.protected, payload
    )
    signature: Callable[[bytes], bytes] = bytes
    published: Callable[[bytes], bytes] = bytes
    """Changes the payload after it was signed."""
    items: Callable[[list[Any]], Any] = list
    """Changes the four parts of the envelope."""
    envelope: Callable[[bytes], bytes] = bytes
    expect: dict[str, Any] = field(default_factory=dict)
    now: datetime = NOW

    def __post_init__(self) -> None:
        """Fill in the fields of a document that is right, in AWS's order."""
        self.fields = {
            "module_id": MODULE_ID,
            "digest": "SHA384",
            "timestamp": milliseconds(MADE),
            "pcrs": dict(PCRS),
            "certificate": None,
            "cabundle": None,
            "public_key": None,
            "user_data": self.name.encode(),
            "nonce": digest("nonce", 20),
        }
        self.certificates = {"certificate": lambda: self.der(self.leaf), "cabundle": self._bundle}

    def change(self, name: str, **parts: Any) -> None:
        """Exchange parts of one certificate."""
        link = self.chain[name]
        link.certificate = replace(link.certificate, **parts)

    def rekey(self, name: str, new: ec.EllipticCurvePrivateKey) -> None:
        """Give a certificate another key."""
        self.chain[name].key = new
        self.change(name, public_key=public_key_info(new))

    def der(self, name: str) -> bytes:
        """Sign one certificate of the chain by its issuer."""
        link = self.chain[name]
        return link.certificate.to_der(self.chain[link.issuer].key)

    def root(self) -> bytes:
        """Return the pinned root."""
        return self.der(self.trusted) if isinstance(self.trusted, str) else self.trusted

    def _bundle(self) -> list[bytes]:
        return [self.der(entry) if isinstance(entry, str) else entry for entry in self.bundle]

    def signed_payload(self) -> bytes:
        """Write the payload that is signed, certificates and all."""
        fields = {
            name: self.certificates[name]() if value is None and name in self.certificates else value
            for name, value in self.fields.items()
        }
        return self.payload(self.write(fields))

    def build(self) -> bytes:
        """Write the document."""
        payload = self.signed_payload()
        signer = self.signer or self.chain[self.leaf].key
        signature = self.signature(sign_raw(signer, self.to_be_signed(self, payload), self.hash))
        parts = [self.protected, self.unprotected, self.published(payload), signature]
        return self.envelope(cbor(self.items(parts)))


def sig_structure(
    protected: bytes, payload: bytes, *, context: str = "Signature1", external: bytes = b""
) -> bytes:
    """Write what a COSE_Sign1's signature covers (RFC 9052, section 4.4)."""
    return cbor([context, protected, external, payload])


NULL = Raw(b"\xf6")
"""A null that is meant: None stands for what ``build`` fills in."""
