"""This host's root of trust on disk: made once, renewed as it runs out, asked for each enclave's credentials.

Follows ``kms-and-attestation.md`` section 3.3 for the chain and ``DESIGN.md`` section 4 for its place. Every
file is written whole or not at all and each key lies in one file with its certificate, so that a crash leaves
nothing torn: what is missing or unusable is issued again, except the root once its certificate is out.
"""

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

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

from cloister.errors import CloisterError
from cloister.nsm import Credentials
from cloister.pki import (
    Authority,
    check_instance_id,
    check_region,
    issue_instance,
    issue_leaf,
    issue_regional,
    issue_root,
    issue_zonal,
    local_name,
)

LOCK_TIMEOUT = 10.0  # seconds; the lock is held for milliseconds
MAX_FILE = 65536  # bytes

# An authority is renewed while it still outlives everything it may issue.
_REGIONAL_RESERVE = timedelta(days=6)
_ZONAL_RESERVE = timedelta(days=1)
_INSTANCE_RESERVE = timedelta(hours=3)

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)


class TrustError(CloisterError):
    """The root of trust cannot be used as it is."""


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

    @property
    def root_pem_path(self) -> Path:
        """The root certificate as a file, for verifiers."""
        return self.directory / "root.pem"

    def enclave_credentials(self, module_id: str, now: datetime) -> Credentials:
        """Issue a signing key and certificate for an enclave, good for 3 hours; raise TrustError.

        Authorities that have run out, or are about to, are renewed first.
        """
        with _reporting(self.directory), _locked(self.directory):
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
    _check_host(region, instance_id, role_arn)
    with _reporting(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        with _locked(directory):
            if _read_host(directory) is None:
                _write_host(directory, region, instance_id, role_arn)
            _complete_root(directory, now)
            trust = open_trust(directory)
            _renew(trust, now)
    return trust


def open_trust(directory: Path) -> Trust:
    """Open the root of trust; raise TrustMissingError when none can be used, else TrustError."""
    with _reporting(directory):
        host = _read_host(directory)
        pem = _read(directory / "root.pem")
    if pem is None or host is None:
        raise TrustMissingError(f"there is no root of trust in {directory}: run 'cloister setup'")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise TrustMissingError(f"{directory / 'root.pem'} is damaged: run 'cloister setup'") from error
    return Trust(directory, host["region"], host["instance_id"], host["role_arn"], certificate)


def set_host(directory: Path, *, instance_id: str | None = None, role_arn: str | None = None) -> Trust:
    """Change the identity that enclaves started from now on carry; None leaves a part as it is."""
    trust = open_trust(directory)
    instance_id = instance_id or trust.instance_id
    role_arn = role_arn or trust.role_arn
    _check_host(trust.region, instance_id, role_arn)
    with _reporting(directory), _locked(directory):
        _write_host(directory, trust.region, instance_id, role_arn)
    return open_trust(directory)


def _check_host(region: str, instance_id: str, role_arn: str | None) -> None:
    check_region(region)
    check_instance_id(instance_id)
    if role_arn is not None and not _ROLE_ARN.fullmatch(role_arn):
        raise TrustError(f"'{role_arn}' is not a role ARN such as arn:aws:iam::123456789012:role/name")


def _complete_root(directory: Path, now: datetime) -> None:
    """Make the root unless there is one; its certificate's own file follows from the file with the key."""
    public = _read(directory / "root.pem")
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
        _write(directory / "root.pem", pem)


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
    _write(path, key + authority.certificate.public_bytes(Encoding.PEM))
    return authority


def _read_authority(path: Path) -> Authority | None:
    """Read key and certificate; None when there are none, or none that belong together."""
    pem = _read(path)
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


def _read_host(directory: Path) -> dict[str, Any] | None:
    """Read the host's identity; None when there is none that makes sense."""
    content = _read(directory / "host.json")
    try:
        host = json.loads(content or b"")
        _check_host(host["region"], host["instance_id"], host["role_arn"])
    except (ValueError, TypeError, KeyError, CloisterError):
        return None
    return dict(host)


def _write_host(directory: Path, region: str, instance_id: str, role_arn: str | None) -> None:
    host = {"region": region, "instance_id": instance_id, "role_arn": role_arn}
    _write(directory / "host.json", (json.dumps(host, indent=2) + "\n").encode())


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE)
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes) -> None:
    """Put a file in place whole, for its owner alone; called under the lock, so one scratch name will do."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes of this host out; raise TrustError when one of them does not let go."""
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TrustError(
                        f"another process has held {directory / '.lock'} for {LOCK_TIMEOUT} s"
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _reporting(directory: Path) -> Iterator[None]:
    """Turn the file system's complaints into ours."""
    try:
        yield
    except OSError as error:
        name = error.filename or directory
        raise TrustError(
            f"the root of trust in {directory} is out of reach: {name}: {error.strerror}"
        ) from error
