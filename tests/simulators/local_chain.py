"""A whole attestation chain in memory, and a way to issue any of its certificates again, slightly wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.nsm import Credentials
from cloister.pki import Authority, issue_instance, issue_leaf, issue_regional, issue_root, issue_zonal

NOW = datetime(2025, 2, 3, 12, 0, 0, 250_000, tzinfo=UTC)
REGION = "eu-central-1"
INSTANCE_ID = "i-0123456789abcdef0"
MODULE_ID = f"{INSTANCE_ID}-enc0198bc503b57519e"


@dataclass(frozen=True, slots=True)
class LocalChain:
    """The authorities from the root to the instance."""

    root: Authority
    regional: Authority
    zonal: Authority
    instance: Authority

    @property
    def cabundle(self) -> tuple[bytes, ...]:
        """Return the authorities as a document carries them."""
        authorities = (self.root, self.regional, self.zonal, self.instance)
        return tuple(der(authority.certificate) for authority in authorities)

    def credentials(self, now: datetime, module_id: str = MODULE_ID) -> Credentials:
        """Issue an enclave's credentials."""
        key = new_key()
        leaf = issue_leaf(self.instance, key.public_key(), module_id=module_id, region=REGION, now=now)
        return Credentials(key, der(leaf), self.cabundle, leaf.not_valid_after_utc)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def der(certificate: x509.Certificate) -> bytes:
    """Encode a certificate."""
    return certificate.public_bytes(Encoding.DER)


@cache
def local_chain(now: datetime = NOW) -> LocalChain:
    """Issue a chain, once for each time asked for."""
    return issue_chain(new_key(), new_key(), new_key(), new_key(), now=now)


def issue_chain(
    root_key: ec.EllipticCurvePrivateKey,
    regional_key: ec.EllipticCurvePrivateKey,
    zonal_key: ec.EllipticCurvePrivateKey,
    instance_key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
) -> LocalChain:
    """Issue a chain for the given keys."""
    root = Authority(root_key, issue_root(root_key, serial=1, now=now))
    regional = Authority(
        regional_key,
        issue_regional(
            root,
            regional_key.public_key(),
            label="0123456789abcdef",
            region=REGION,
            serial=2,
            crl_id=bytes(range(16)),
            now=now,
        ),
    )
    zonal = Authority(
        zonal_key,
        issue_zonal(
            regional,
            zonal_key.public_key(),
            label="fedcba9876543210",
            region=REGION,
            serial=3,
            crl_id=bytes(range(16)),
            now=now,
        ),
    )
    instance = Authority(
        instance_key,
        issue_instance(
            zonal, instance_key.public_key(), instance_id=INSTANCE_ID, region=REGION, serial=4, now=now
        ),
    )
    return LocalChain(root, regional, zonal, instance)


def reissue(
    certificate: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Name | None = None,
    public_key: ec.EllipticCurvePublicKey | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    algorithm: hashes.SHA256 | hashes.SHA384 | None = None,
) -> x509.Certificate:
    """Issue a certificate again with some of its parts exchanged."""
    key = public_key or certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer or certificate.issuer)
        .subject_name(certificate.subject)
        .public_key(key)
        .serial_number(certificate.serial_number)
        .not_valid_before(start or certificate.not_valid_before_utc)
        .not_valid_after(end or certificate.not_valid_after_utc)
    )
    if extensions is None:
        extensions = [(extension.value, extension.critical) for extension in certificate.extensions]
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(issuer_key, algorithm or hashes.SHA384())


def key_usage(*names: str) -> x509.KeyUsage:
    """Return a key usage with the named bits."""
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bit in names for bit in bits})
