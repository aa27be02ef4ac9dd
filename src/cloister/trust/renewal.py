"""The authorities below the root: which one is in force, and the next where one runs out.

Each is renewed while it still outlives everything it may issue. Regional authorities may be issued ahead of
time, one after the other, for a host whose root's key is elsewhere: ``regional.pem`` is the list of them.
"""

import secrets
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloister.pki import Authority, issue_instance, issue_regional, issue_zonal, local_name
from cloister.trust.files import TrustError
from cloister.trust.keyed import KeyedCertificate, keyed, read_keyed, write_keyed

REGIONAL_RESERVE = timedelta(days=6)
ZONAL_RESERVE = timedelta(days=1)
INSTANCE_RESERVE = timedelta(hours=3)

REGIONAL_TURN = timedelta(days=14)
"""What is left of a regional authority's 20 days when its reserve is kept: the next one's turn."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def issue_series(
    root: Authority, *, region: str, now: datetime, span: timedelta = timedelta()
) -> list[KeyedCertificate]:
    """Issue regional authorities for consecutive times, at least one, until ``span`` is covered."""
    count = max(1, ceil(span / REGIONAL_TURN))
    if now + count * REGIONAL_TURN + REGIONAL_RESERVE > root.certificate.not_valid_after_utc:
        raise TrustError(
            f"the root ends at {root.certificate.not_valid_after_utc}, before the time asked for"
        )
    return [keyed(_issue_regional(root, region, now + turn * REGIONAL_TURN)) for turn in range(count)]


def covered_until(series: list[KeyedCertificate], now: datetime) -> datetime | None:
    """Return until when regional authorities of a series follow each other without a gap, from now on."""
    end = None
    for entry in sorted(series, key=lambda entry: entry.certificate.not_valid_before_utc):
        if entry.certificate.not_valid_before_utc <= (end or now):
            last = entry.certificate.not_valid_after_utc - REGIONAL_RESERVE
            end = max(last, end or last) if last > now else end
    return end


def renew(
    directory: Path, root: x509.Certificate, *, region: str, instance_id: str, now: datetime
) -> tuple[Authority, Authority, Authority]:
    """Return regional, zonal and instance authority, issued again where missing, unusable or running out.

    Called under the lock; raise TrustError.
    """
    if not root.not_valid_before_utc <= now <= root.not_valid_after_utc:
        raise TrustError(
            f"this host's clock says {now}, and its local root is valid from {root.not_valid_before_utc} "
            f"to {root.not_valid_after_utc}"
        )
    regional = _regional(directory, root, region, now)
    zonal = _zonal(directory / "zonal.pem", regional, region, now)
    return regional, zonal, _instance(directory / "instance.pem", zonal, region, instance_id, now)


def root_entry(directory: Path, root: x509.Certificate) -> KeyedCertificate | None:
    """Return what ``root.key`` holds for this root: its key, or the key's address on a token."""
    return next((entry for entry in read_keyed(directory / "root.key") if entry.certificate == root), None)


def issued_by(root: x509.Certificate, entries: list[KeyedCertificate]) -> list[KeyedCertificate]:
    """Return those that this root issued."""
    return [entry for entry in entries if _is_issuer(root, entry.certificate)]


def _regional(directory: Path, root: x509.Certificate, region: str, now: datetime) -> Authority:
    path = directory / "regional.pem"
    series = read_keyed(path)
    current = choose(series, root, local_name(region), REGIONAL_RESERVE, now)
    if current is not None:
        return current
    entry = root_entry(directory, root)
    if entry is None:
        begins = [one.certificate.not_valid_before_utc for one in issued_by(root, series)]
        if begins and now < min(begins):
            raise TrustError(
                f"this host's clock says {now}, and its regional authorities begin at {min(begins)}: "
                f"put the clock right; the root's key is elsewhere, and no other can be issued"
            )
        raise TrustError(
            f"the regional authority has run out, and {directory / 'root.key'} cannot issue another: "
            "bring the root's key or a new bundle with 'cloister pki import'"
        )
    (issued,) = issue_series(entry.open(), region=region, now=now)
    later = [entry for entry in series if entry.certificate.not_valid_before_utc > now]
    write_keyed(path, [issued, *issued_by(root, later)])
    return issued.open()


def _zonal(path: Path, regional: Authority, region: str, now: datetime) -> Authority:
    name = local_name("zonal", region)
    current = choose(read_keyed(path), regional.certificate, name, ZONAL_RESERVE, now)
    if current is not None:
        return current
    key = new_key()
    certificate = issue_zonal(
        regional,
        key.public_key(),
        label=secrets.token_hex(8),
        region=region,
        serial=secrets.randbits(128) | 1,
        crl_id=secrets.token_bytes(16),
        now=now,
    )
    authority = Authority(key, certificate)
    write_keyed(path, [keyed(authority)])
    return authority


def _instance(path: Path, zonal: Authority, region: str, instance_id: str, now: datetime) -> Authority:
    name = local_name(instance_id, region)
    current = choose(read_keyed(path), zonal.certificate, name, INSTANCE_RESERVE, now)
    if current is not None:
        return current
    key = new_key()
    certificate = issue_instance(
        zonal,
        key.public_key(),
        instance_id=instance_id,
        region=region,
        serial=secrets.randbits(158) | 1 << 158,  # 20 bytes, as the genuine ones
        now=now,
    )
    authority = Authority(key, certificate)
    write_keyed(path, [keyed(authority)])
    return authority


def _issue_regional(root: Authority, region: str, now: datetime) -> Authority:
    key = new_key()
    certificate = issue_regional(
        root,
        key.public_key(),
        label=secrets.token_hex(8),
        region=region,
        serial=secrets.randbits(128) | 1,
        crl_id=secrets.token_bytes(16),
        now=now,
    )
    return Authority(key, certificate)


def choose(
    entries: list[KeyedCertificate], issuer: x509.Certificate, name: str, reserve: timedelta, now: datetime
) -> Authority | None:
    """Return the authority of this issuer and name that is in force, with its reserve, and ends first."""
    for entry in sorted(entries, key=lambda entry: entry.certificate.not_valid_after_utc):
        certificate = entry.certificate
        if not certificate.not_valid_before_utc <= now <= now + reserve <= certificate.not_valid_after_utc:
            continue
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1 or not f".{names[0].value!s}".endswith(f".{name}"):
            continue
        if not _is_issuer(issuer, certificate):
            continue
        try:
            return entry.open()
        except TrustError:
            continue
    return None


def _is_issuer(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
