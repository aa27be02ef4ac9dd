"""Roots and bundles from elsewhere: what could mislead people, run code or vouch for nothing is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cloister.pki import PkiError, issue_root
from cloister.trust import Trust, TrustError, bring_in, load_root
from simulators.local_chain import new_key
from simulators.power_loss import NOW, REGION

Name = Sequence[tuple[x509.ObjectIdentifier, str]]
OWNED: Name = (
    (NameOID.COUNTRY_NAME, "XX"),
    (NameOID.ORGANIZATION_NAME, "Cloister"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "Local"),
)
ROOT: Name = (*OWNED, (NameOID.COMMON_NAME, "local.cloister-enclaves"))
REGIONAL: Name = (*OWNED, (NameOID.COMMON_NAME, f"0123456789abcdef.{REGION}.local.cloister-enclaves"))
NARROW = x509.NameConstraints([x509.DNSName("example.org")], None)
URI = b"pkcs11:token=t;object=o?module-path=/nowhere/evil.so&pin-source=file:/etc/hostname\n"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How a certificate is to differ from a good one."""

    name: Name
    key: ec.EllipticCurvePrivateKey
    ca: bool = True
    path_length: int | None = None
    identified: bool = True
    may_issue: bool = True
    extra: x509.ExtensionType | None = None
    hash: type[hashes.SHA256] | type[hashes.SHA384] = hashes.SHA384

    def sign(
        self, issuer: "Wish | None" = None, public_key: ec.EllipticCurvePublicKey | None = None
    ) -> x509.Certificate:
        """Return the certificate, self-signed or under an issuer."""
        public_key = public_key or self.key.public_key()
        builder = x509.CertificateBuilder(
            written((issuer or self).name), written(self.name), public_key, 7, NOW, NOW + timedelta(days=30)
        ).add_extension(x509.BasicConstraints(ca=self.ca, path_length=self.path_length), critical=True)
        if self.identified:
            identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
            builder = builder.add_extension(identifier, critical=False)
        usage = x509.KeyUsage(True, False, False, False, False, self.may_issue, True, False, False)
        builder = builder.add_extension(usage, critical=True)
        if self.extra is not None:
            builder = builder.add_extension(self.extra, critical=False)
        return builder.sign((issuer or self).key, self.hash())


def written(name: Name) -> x509.Name:
    """Return a name as certificates have it."""
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in name])


def pem(part: ec.EllipticCurvePrivateKey | x509.Certificate) -> bytes:
    """Write a key or a certificate."""
    if isinstance(part, x509.Certificate):
        return part.public_bytes(Encoding.PEM)
    return part.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def refused(trust: Trust, content: bytes, reason: str) -> None:
    """Expect the refusal of a file, even to replace a root, that leaves every file as it was."""
    before = {path.name: path.read_bytes() for path in trust.directory.iterdir()}
    with pytest.raises(TrustError, match=reason):
        bring_in(trust.directory, content, NOW, replace=True)
    assert {path.name: path.read_bytes() for path in trust.directory.iterdir()} == before


def test_what_differs_in_nothing_is_taken(trust: Trust) -> None:
    """The root and the authority that the cases below change are good ones."""
    root = Wish(name=ROOT, key=new_key())
    regional = Wish(name=REGIONAL, key=new_key(), path_length=2)
    bring_in(
        trust.directory, pem(root.sign()) + pem(regional.key) + pem(regional.sign(root)), NOW, replace=True
    )


@pytest.mark.parametrize(
    "name",
    [
        (*OWNED[:1], (NameOID.ORGANIZATION_NAME, "\u0410mazon"), *OWNED[2:], *ROOT[3:]),
        (*OWNED[:1], (NameOID.ORGANIZATION_NAME, "A mazon"), *OWNED[2:], *ROOT[3:]),
        (*OWNED[:2], (NameOID.ORGANIZATIONAL_UNIT_NAME, "Amazon Web Services"), *ROOT[3:]),
        (*ROOT, (NameOID.COMMON_NAME, "aws.nitro-enclaves")),
        (*OWNED, (NameOID.COMMON_NAME, "aws.nitro\u2010enclaves.local.cloister-enclaves")),
        (*OWNED, (NameOID.COMMON_NAME, "aws.local.cloister-enclaves")),
        (*OWNED, (NameOID.COMMON_NAME, "amazon-root.local.cloister-enclaves")),
    ],
    ids=["homoglyph", "space", "unit", "second name", "other hyphen", "aws", "label"],
)
def test_a_root_that_only_resembles_a_local_one_is_refused(trust: Trust, name: Name) -> None:
    """Every part of a root's name is the local one's, to the byte; what people could misread is not."""
    root = Wish(name=name, key=new_key())
    refused(trust, pem(root.key) + pem(root.sign()), "has another name than local roots have")


@pytest.mark.parametrize(
    "change",
    [
        {"may_issue": False},
        {"path_length": 0},
        {"extra": NARROW},
        {"extra": x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(2000))},
        {"hash": hashes.SHA256},
    ],
    ids=["usage", "path length", "name constraints", "size", "hash"],
)
def test_a_root_that_verifiers_would_refuse_is_refused(trust: Trust, change: dict[str, object]) -> None:
    """It is not adopted first, in place of a root that works, and found out by enclaves."""
    root = Wish(name=ROOT, key=new_key(), **change)  # type: ignore[arg-type]
    refused(trust, pem(root.key) + pem(root.sign()), "has not the extensions of one")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"identified": False}, "SubjectKeyIdentifier"),
        ({"ca": False, "path_length": None}, "not marked as a CA"),
        ({"may_issue": False}, "may not sign certificates"),
        ({"path_length": 1}, "allows 1 authorities below it, and 2 follow"),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "does not hold a P-384 key"),
        ({"hash": hashes.SHA256}, "not signed with ecdsa-with-SHA384"),
        ({"extra": NARROW}, "nameConstraints"),
        ({"name": (*REGIONAL, (NameOID.COMMON_NAME, "aws.nitro-enclaves"))}, "it is not called"),
        ({"name": (*OWNED[:1], (NameOID.ORGANIZATION_NAME, "Amazon"), *REGIONAL[2:])}, "it is not called"),
        ({"name": (*OWNED, (NameOID.COMMON_NAME, f"aws.{REGION}.local.cloister-enclaves"))}, "hexadecimal"),
    ],
    ids=["identifier", "CA", "usage", "depth", "curve", "hash", "narrow", "two names", "owner", "label"],
)
def test_an_authority_that_cannot_vouch_is_refused(
    trust: Trust, change: dict[str, object], reason: str
) -> None:
    """A bundle's authorities issue a chain that verifiers accept, or the bundle is not taken in at all."""
    root = Wish(name=ROOT, key=new_key())
    regional = Wish(**{"name": REGIONAL, "key": new_key(), "path_length": 2} | change)  # type: ignore[arg-type]
    content = pem(root.sign()) + pem(regional.key) + pem(regional.sign(root))
    refused(trust, content, rf"cannot vouch for enclaves: .*{reason}")


@pytest.mark.parametrize("which", ["root", "regional"])
def test_a_file_does_not_name_a_library_to_load(trust: Trust, which: str, tmp_path: Path) -> None:
    """The address of a token in an imported file would run code that its author chose: it is refused."""
    root = Wish(name=ROOT, key=new_key())
    if which == "root":
        content = URI + pem(root.sign())
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(TrustError, match="names a key on a token"):
            load_root(path, None)
    else:
        regional = Wish(name=REGIONAL, key=root.key, path_length=2)
        content = pem(root.sign()) + URI + pem(regional.sign(root))
    refused(trust, content, "names a key on a token")


@pytest.mark.parametrize("name", ["\x1b[2Jaws.nitro-enclaves", "\n\x07example.org"])
def test_a_refused_name_drives_no_terminal(trust: Trust, name: str) -> None:
    """What a hostile certificate is called is shown without its control characters."""
    root = Wish(name=[(NameOID.COMMON_NAME, name)], key=new_key())
    with pytest.raises(TrustError) as caught:
        bring_in(trust.directory, pem(root.key) + pem(root.sign()), NOW)
    assert str(caught.value).isprintable()


def test_a_root_outside_its_life_is_refused(trust: Trust) -> None:
    """An expired root, or one of the future, takes no other's place."""
    root = Wish(name=ROOT, key=new_key())
    for late in (timedelta(days=-1), timedelta(days=31)):
        with pytest.raises(TrustError, match="this host's clock says"):
            bring_in(trust.directory, pem(root.key) + pem(root.sign()), NOW + late, replace=True)


@pytest.mark.parametrize("label", ["amazon", "my-amazon-root", "aws", "aws-nitro-enclaves", "test-aws"])
def test_labels_are_not_amazon_s(label: str) -> None:
    """A label is a word before a root's name, and none that suggests whose it is not."""
    issue_root(new_key(), serial=1, now=NOW, label="laws")
    with pytest.raises(PkiError, match="taken for Amazon's"):
        issue_root(new_key(), serial=1, now=NOW, label=label)
