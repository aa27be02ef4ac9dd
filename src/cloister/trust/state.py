"""This host's root of trust on disk: made once, renewed as it runs out, asked for each enclave's credentials.

Follows ``kms-and-attestation.md`` section 3.3 for the chain and ``DESIGN.md`` section 4 for its place. Every
file is written whole or not at all and each key lies in one file with its certificate, so that a crash leaves
nothing torn: what is missing or unusable is issued again, except the root once its certificate is out.
"""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from cloister.nsm import DOCUMENT_MAPS, Credentials
from cloister.pki import (
    Authority,
    issue_instance,
    issue_leaf,
    issue_regional,
    issue_root,
    issue_zonal,
    local_name,
)
from cloister.trust.files import TrustError, locked, make_directory, read, reporting, write
from cloister.trust.host import Host, read_host, write_host

# An authority is renewed while it still outlives everything it may issue.
_REGIONAL_RESERVE = timedelta(days=6)
_ZONAL_RESERVE = timedelta(days=1)
_INSTANCE_RESERVE = timedelta(hours=3)


class TrustMissingError(TrustError):
    """There is no root of trust here yet."""


@dataclass(frozen=True, slots=True)
class Trust:
    """A host's root of trust and the identity that its enclaves carry."""

    directory: Path
    region: str
    instance_id: str
    """What PCR4 is made of."""
    role_arn: str | None
    """What PCR3 is made of, if the host has a role."""
    root_certificate: x509.Certificate
    document_map: str = DOCUMENT_MAPS[0]
    """The form of payload maps: ``indefinite``, as AWS since June 2025, or ``definite``, as before."""

    @property
    def root_pem_path(self) -> Path:
        """The root certificate as a file, for verifiers."""
        return self.directory / "root.pem"

    def enclave_credentials(self, module_id: str, now: datetime) -> Credentials:
        """Issue a signing key and certificate for an enclave, good for 3 hours; raise TrustError.

        Authorities that have run out, or are about to, are renewed first.
        """
        with reporting(self.directory), locked(self.directory):
            chain = _renew(self, now)
        instance = chain[-1]
        key = _new_key()
        leaf = issue_leaf(instance, key.public_key(), module_id=module_id, region=self.region, now=now)
        issuers = (self.root_certificate, *(authority.certificate for authority in chain))
        return Credentials(
            key=key,
            certificate=leaf.public_bytes(Encoding.DER),
            cabundle=tuple(certificate.public_bytes(Encoding.DER) for certificate in issuers),
            not_after=leaf.not_valid_after_utc,
        )


def initialise(
    directory: Path, *, region: str, instance_id: str, now: datetime, role_arn: str | None = None
) -> Trust:
    """Make the root of trust or complete it; an existing root and identity stay; raise TrustError."""
    host = Host(region, instance_id, role_arn)
    host.check()
    with reporting(directory):
        make_directory(directory)
        with locked(directory):
            if read_host(directory) is None:
                write_host(directory, host)
            _complete_root(directory, now)
            trust = open_trust(directory)
            _renew(trust, now)
    return trust


def open_trust(directory: Path) -> Trust:
    """Open the root of trust; raise TrustMissingError when none can be used, else TrustError."""
    with reporting(directory):
        host = read_host(directory)
        pem = read(directory / "root.pem")
    if pem is None or host is None:
        raise TrustMissingError(f"there is no root of trust in {directory}: run 'cloister setup'")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise TrustMissingError(f"{directory / 'root.pem'} is damaged: run 'cloister setup'") from error
    return Trust(
        directory, host.region, host.instance_id, host.role_arn, certificate, document_map=host.document_map
    )


def set_host(
    directory: Path,
    *,
    instance_id: str | None = None,
    role_arn: str | None = None,
    no_role: bool = False,
    document_map: str | None = None,
) -> Trust:
    """Change the identity that enclaves started from now on carry; None leaves a part as it is."""
    trust = open_trust(directory)
    host = Host(trust.region, trust.instance_id, None if no_role else trust.role_arn, trust.document_map)
    wishes = {"instance_id": instance_id, "role_arn": role_arn, "document_map": document_map}
    host = replace(host, **{name: wish for name, wish in wishes.items() if wish is not None})
    host.check()
    with reporting(directory), locked(directory):
        write_host(directory, host)
    return open_trust(directory)


def _complete_root(directory: Path, now: datetime) -> None:
    """Make the root unless there is one; its certificate's own file follows from the file with the key."""
    public = read(directory / "root.pem")
    root = _read_authority(directory / "root.key")
    if root is None and public is not None:
        key_file_present = (directory / "root.key").exists()
        if key_file_present or not _is_certificate(public):
            name = "root.key" if key_file_present else "root.pem"
            raise TrustError(
                f"{directory / name} is damaged: restore it, or move {directory} away for a new root"
            )
        return  # a root whose key is kept elsewhere
    if root is None:
        key = _new_key()
        root = Authority(key, issue_root(key, serial=secrets.randbits(128) | 1, now=now))
        _write_authority(directory / "root.key", root)
    pem = root.certificate.public_bytes(Encoding.PEM)
    if public != pem:
        write(directory / "root.pem", pem)


def _renew(trust: Trust, now: datetime) -> tuple[Authority, Authority, Authority]:
    """Return regional, zonal and instance authority, issued again where missing, unusable or running out."""
    root = trust.root_certificate
    if not root.not_valid_before_utc <= now <= root.not_valid_after_utc:
        raise TrustError(
            f"this host's clock says {now}, and its local root is valid from {root.not_valid_before_utc} "
            f"to {root.not_valid_after_utc}"
        )
    regional = _regional(trust, now)
    zonal = _zonal(trust, regional, now)
    return regional, zonal, _instance(trust, zonal, now)


def _regional(trust: Trust, now: datetime) -> Authority:
    path, name = trust.directory / "regional.pem", local_name(trust.region)
    current = _current(path, trust.root_certificate, name, now + _REGIONAL_RESERVE, now)
    if current is not None:
        return current
    root = _read_authority(trust.directory / "root.key")
    if root is None or root.certificate != trust.root_certificate:
        raise TrustError(
            f"the regional authority has run out, and {trust.directory / 'root.key'} cannot issue another"
        )
    key = _new_key()
    certificate = issue_regional(
        root,
        key.public_key(),
        label=secrets.token_hex(8),
        region=trust.region,
        serial=secrets.randbits(128) | 1,
        crl_id=secrets.token_bytes(16),
        now=now,
    )
    return _write_authority(path, Authority(key, certificate))


def _zonal(trust: Trust, regional: Authority, now: datetime) -> Authority:
    path, name = trust.directory / "zonal.pem", local_name("zonal", trust.region)
    current = _current(path, regional.certificate, name, now + _ZONAL_RESERVE, now)
    if current is not None:
        return current
    key = _new_key()
    certificate = issue_zonal(
        regional,
        key.public_key(),
        label=secrets.token_hex(8),
        region=trust.region,
        serial=secrets.randbits(128) | 1,
        crl_id=secrets.token_bytes(16),
        now=now,
    )
    return _write_authority(path, Authority(key, certificate))


def _instance(trust: Trust, zonal: Authority, now: datetime) -> Authority:
    path, name = trust.directory / "instance.pem", local_name(trust.instance_id, trust.region)
    current = _current(path, zonal.certificate, name, now + _INSTANCE_RESERVE, now)
    if current is not None:
        return current
    key = _new_key()
    certificate = issue_instance(
        zonal,
        key.public_key(),
        instance_id=trust.instance_id,
        region=trust.region,
        serial=secrets.randbits(158) | 1 << 158,  # 20 bytes, as the genuine ones
        now=now,
    )
    return _write_authority(path, Authority(key, certificate))


def _current(
    path: Path, issuer: x509.Certificate, name: str, until: datetime, now: datetime
) -> Authority | None:
    """Return a file's authority if this issuer's, of that name, and valid from now until then."""
    authority = _read_authority(path)
    if authority is None:
        return None
    certificate = authority.certificate
    if not certificate.not_valid_before_utc <= now <= until <= certificate.not_valid_after_utc:
        return None
    (common_name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME) or (None,)
    if common_name is None or not f".{common_name.value!s}".endswith(f".{name}"):
        return None
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return None
    return authority


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _write_authority(path: Path, authority: Authority) -> Authority:
    """Write key and certificate as one file, so that they can never disagree."""
    key = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write(path, key + authority.certificate.public_bytes(Encoding.PEM))
    return authority


def _read_authority(path: Path) -> Authority | None:
    """Read key and certificate; None when there are none, or none that belong together."""
    pem = read(path)
    if pem is None:
        return None
    try:
        key = load_pem_private_key(pem, password=None)
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return Authority(key, certificate)


def _is_certificate(pem: bytes) -> bool:
    try:
        x509.load_pem_x509_certificate(pem)
    except ValueError:
        return False
    return True
