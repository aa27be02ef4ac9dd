"""Issue the five certificates of an attestation chain, in exactly the genuine shapes, under a local name.

Follows ``kms-and-attestation.md`` section 3.3 and ``nitro-tools.md`` section 5.4: fields, their order and
string types, lifetimes, serial numbers and extensions are those of AWS's chain. What differs says so: every
authority's name ends in ``local.cloister-enclaves``, the organization is Cloister, and the CRL addresses can
never resolve (RFC 6761). Keys, times, serial numbers and labels are arguments.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloister.errors import CloisterError

LOCAL_NAME = "local.cloister-enclaves"
_COUNTRY = "XX"  # ISO 3166-1 keeps it for private use
_ORGANIZATION = "Cloister"
_UNIT = "Local"

# kms-and-attestation.md, section 3.3
_ROOT_LIFE = timedelta(days=10958, hours=1)
_REGIONAL_LIFE = timedelta(days=20, hours=1)
_ZONAL_LIFE = timedelta(days=6)
_INSTANCE_LIFE = timedelta(days=1)
_LEAF_LIFE = timedelta(hours=3)
_LEAF_LEAD = timedelta(seconds=3)
_AUTHORITY_LEAD = timedelta(minutes=1)  # so that a leaf never starts before its issuers
_REGIONAL_LEAD = timedelta(hours=1)
_ROOT_LEAD = timedelta(days=1)  # a clock that was fast at set-up may be put right later

_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,15}[a-z0-9])?")  # keeps each CN within X.520's 64 characters
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_HEX_LABEL = re.compile(r"[0-9a-f]{1,16}")
_AMAZONIAN = re.compile(r"amazon|nitro-enclaves|(?:^|-)aws(?:-|$)")
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_MODULE_ID = re.compile(r"i-[0-9a-f]{8,17}-enc([0-9a-f]{16})")


class PkiError(CloisterError):
    """A certificate was asked for with a name or number that it cannot carry."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that issues others, and its private key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def local_name(*labels: str) -> str:
    """Return a name under the local root's, ``a.b.local.cloister-enclaves``."""
    return ".".join((*labels, LOCAL_NAME))


def check_region(region: str) -> None:
    """Refuse a region that the certificates' names cannot hold; raise PkiError."""
    if not _REGION.fullmatch(region):
        raise PkiError(f"the region '{region}' must be 1 to 17 lower-case letters, digits and inner hyphens")


def check_instance_id(instance_id: str) -> None:
    """Refuse what does not look like an EC2 instance id; raise PkiError."""
    if not _INSTANCE_ID.fullmatch(instance_id):
        raise PkiError(
            f"the instance id '{instance_id}' must be 'i-' and 8 to 17 hexadecimal digits, in lower case"
        )


def root_subject(label: str = "") -> x509.Name:
    """Return what a root is called, with a label before its name if there is one; raise PkiError."""
    if label and not _LABEL.fullmatch(label):
        raise PkiError(f"the label '{label}' must be 1 to 32 lower-case letters, digits and inner hyphens")
    if _AMAZONIAN.search(label):
        raise PkiError(f"the label '{label}' could be taken for Amazon's: choose another word")
    common_name = local_name(label) if label else local_name()
    return _name((NameOID.COUNTRY_NAME, _COUNTRY), *_ORGANIZED, (NameOID.COMMON_NAME, common_name))


def regional_subject(label: str, region: str) -> x509.Name:
    """Return what a region's authority is called; raise PkiError."""
    check_region(region)
    if not _HEX_LABEL.fullmatch(label):
        raise PkiError(f"the label '{label}' of a region's authority must be 1 to 16 hexadecimal digits")
    return _name(
        (NameOID.COUNTRY_NAME, _COUNTRY), *_ORGANIZED, (NameOID.COMMON_NAME, local_name(label, region))
    )


def issue_root(
    key: ec.EllipticCurvePrivateKey, *, serial: int, now: datetime, label: str = ""
) -> x509.Certificate:
    """Issue a self-signed root that lives 30 years; a label before its name tells it from other roots."""
    name = root_subject(label)
    builder = (
        _builder(name, name, key.public_key(), serial=serial, start=now - _ROOT_LEAD, life=_ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(signs=True, issues=True, revokes=True), critical=True)
    )
    return builder.sign(key, hashes.SHA384())


def issue_regional(
    root: Authority,
    public_key: ec.EllipticCurvePublicKey,
    *,
    label: str,
    region: str,
    serial: int,
    crl_id: bytes,
    now: datetime,
) -> x509.Certificate:
    """Issue a region's authority, good for 20 days; ``label`` is 16 hex digits, ``crl_id`` 16 bytes."""
    subject, start = regional_subject(label, region), now - _REGIONAL_LEAD
    builder = _builder(
        root.certificate.subject, subject, public_key, serial=serial, start=start, life=_REGIONAL_LIFE
    )
    return _with_authority_extensions(builder, root, public_key, 2, _crl(crl_id)).sign(
        root.key, hashes.SHA384()
    )


def issue_zonal(
    regional: Authority,
    public_key: ec.EllipticCurvePublicKey,
    *,
    label: str,
    region: str,
    serial: int,
    crl_id: bytes,
    now: datetime,
) -> x509.Certificate:
    """Issue a zone's authority, good for 6 days; ``label`` is 16 hex digits, ``crl_id`` 16 bytes."""
    check_region(region)
    subject = _name(
        (NameOID.COMMON_NAME, local_name(label, "zonal", region)),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, _UNIT),
        (NameOID.ORGANIZATION_NAME, _ORGANIZATION),
        (NameOID.COUNTRY_NAME, _COUNTRY),
        (NameOID.STATE_OR_PROVINCE_NAME, "LO"),
        (NameOID.LOCALITY_NAME, "Local"),
    )
    start = now - _AUTHORITY_LEAD
    builder = _builder(
        regional.certificate.subject, subject, public_key, serial=serial, start=start, life=_ZONAL_LIFE
    )
    crl = _crl(crl_id, region)
    return _with_authority_extensions(builder, regional, public_key, 1, crl).sign(
        regional.key, hashes.SHA384()
    )


def issue_instance(
    zonal: Authority,
    public_key: ec.EllipticCurvePublicKey,
    *,
    instance_id: str,
    region: str,
    serial: int,
    now: datetime,
) -> x509.Certificate:
    """Issue a host's authority, good for a day, which may sign certificates and nothing else."""
    check_region(region)
    check_instance_id(instance_id)
    subject = _name(*_LOCATED, (NameOID.COMMON_NAME, local_name(instance_id, region)))
    start = now - _AUTHORITY_LEAD
    builder = (
        _builder(
            zonal.certificate.subject, subject, public_key, serial=serial, start=start, life=_INSTANCE_LIFE
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(issues=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_authority_key_identifier(zonal), critical=False)
    )
    return builder.sign(zonal.key, hashes.SHA384())


def issue_leaf(
    instance: Authority,
    public_key: ec.EllipticCurvePublicKey,
    *,
    module_id: str,
    region: str,
    now: datetime,
) -> x509.Certificate:
    """Issue an enclave's signing certificate: from 3 s ago for 3 h; raise PkiError for a malformed module id.

    The serial number is the module id's last 16 digits, then the time in seconds as 8 bytes.
    """
    check_region(region)
    found = _MODULE_ID.fullmatch(module_id)
    if found is None:
        raise PkiError(
            f"the module id '{module_id}' must be an instance id, '-enc' and 16 hexadecimal digits"
        )
    issued = now.replace(microsecond=0)
    serial = int(found[1], 16) << 64 | int(issued.timestamp())
    subject = _name(*_LOCATED, (NameOID.COMMON_NAME, f"{module_id}.{region}.local"))
    start, life = issued - _LEAF_LEAD, _LEAF_LEAD + _LEAF_LIFE
    builder = (
        _builder(instance.certificate.subject, subject, public_key, serial=serial, start=start, life=life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=True, commits=True), critical=False)
    )
    return builder.sign(instance.key, hashes.SHA384())


_ORGANIZED = ((NameOID.ORGANIZATION_NAME, _ORGANIZATION), (NameOID.ORGANIZATIONAL_UNIT_NAME, _UNIT))
_LOCATED = (
    (NameOID.COUNTRY_NAME, _COUNTRY),
    (NameOID.STATE_OR_PROVINCE_NAME, "Local"),
    (NameOID.LOCALITY_NAME, "Local"),
    *_ORGANIZED,
)


def _name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    """Return a name in the given order; the country is a PrintableString, the rest UTF8Strings."""
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    serial: int,
    start: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    start = start.replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(start + life)
    )


def _with_authority_extensions(
    builder: x509.CertificateBuilder,
    issuer: Authority,
    public_key: ec.EllipticCurvePublicKey,
    path_length: int,
    crl: x509.CRLDistributionPoints,
) -> x509.CertificateBuilder:
    """Add what regional and zonal certificates carry, in the genuine order."""
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_authority_key_identifier(issuer), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_key_usage(signs=True, issues=True, revokes=True), critical=True)
        .add_extension(crl, critical=False)
    )


def _authority_key_identifier(issuer: Authority) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(
    *, signs: bool = False, commits: bool = False, issues: bool = False, revokes: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=commits,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=revokes,
        encipher_only=False,
        decipher_only=False,
    )


def _crl(crl_id: bytes, region: str | None = None) -> x509.CRLDistributionPoints:
    """Return an address of the genuine shape that no resolver answers: verifiers fetch no CRL."""
    if len(crl_id) != 16:
        raise PkiError(f"a CRL is named by 16 bytes, not {len(crl_id)}")
    digits = crl_id.hex()
    uuid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    host = f"crl-{region}-cloister-enclaves" if region else "cloister-enclaves-crl"
    url = x509.UniformResourceIdentifier(f"http://{host}.invalid/crl/{uuid}.crl")
    return x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])
