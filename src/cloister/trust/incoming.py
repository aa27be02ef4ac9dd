"""Roots and bundles that come from elsewhere: read, and tried, before anything here counts on them.

A file may be from anybody. A key is in it or it is refused: an address of one on a token would have this host
load the library that the file names. Authorities are taken when a chain below them validates as it will have
to everywhere else.
"""

import secrets
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.errors import CloisterError
from cloister.pki import (
    Authority,
    issue_instance,
    issue_leaf,
    issue_zonal,
    local_name,
    regional_subject,
    validate_chain,
)
from cloister.trust.files import TrustError
from cloister.trust.keyed import KeyedCertificate, keyed, name_of, split
from cloister.trust.renewal import covered_until, issued_by, new_key
from cloister.trust.roots import NewRoot, check_local_root

_PROBE: Final = "i-00000000"
"""The instance of the chain that is issued to be thrown away."""


def read_incoming(content: bytes, passphrase: bytes | None, now: datetime) -> NewRoot:
    """Return the root, with its key or with regional authorities, that a file holds; raise TrustError."""
    entries = split(content)
    roots = [entry for entry in entries if entry.certificate.issuer == entry.certificate.subject]
    if not entries:
        raise TrustError(
            "the file is empty, cut short or of another kind: expected a root or a bundle, in PEM"
        )
    if len(roots) != 1:
        raise TrustError(f"the file holds {len(roots)} roots: expected a root with its key, or a bundle")
    (root,) = roots
    check_local_root(root.certificate)
    if any(entry.uri is not None for entry in entries):
        raise TrustError("the file names a key on a token in place of a key: say --key 'pkcs11:...' for that")
    if not root.certificate.not_valid_before_utc <= now <= root.certificate.not_valid_after_utc:
        raise TrustError(
            f"the root is valid from {root.certificate.not_valid_before_utc} to "
            f"{root.certificate.not_valid_after_utc}, and this host's clock says {now}"
        )
    if root.secret:
        return NewRoot(root.certificate, keyed(root.open(passphrase=passphrase)))
    return NewRoot(root.certificate, None, _series(root, entries, passphrase, now))


def _series(
    root: KeyedCertificate, entries: list[KeyedCertificate], passphrase: bytes | None, now: datetime
) -> list[KeyedCertificate]:
    issued = issued_by(root.certificate, [entry for entry in entries if entry is not root and entry.secret])
    authorities = [entry.open(passphrase=passphrase) for entry in issued]
    if not authorities:
        raise TrustError(
            "the file holds a root's certificate and nothing to issue under it: that is for verifiers, "
            "who name it with --root"
        )
    series = [keyed(authority) for authority in authorities]
    if len({region_of(entry.certificate) for entry in series}) != 1 or covered_until(series, now) is None:
        raise TrustError("the bundle's authorities are for several regions, or none of them is in force now")
    for authority in authorities:
        _try_out(root.certificate, authority)
    return series


def region_of(regional: x509.Certificate) -> str:
    """Return the region that a regional authority is for."""
    return name_of(regional).removesuffix(f".{local_name()}").partition(".")[2]


def _try_out(root: x509.Certificate, regional: Authority) -> None:
    """Issue a chain below a regional authority, and hold it to what verifiers demand; raise TrustError."""
    certificate, name = regional.certificate, name_of(regional.certificate)
    region, at = region_of(certificate), certificate.not_valid_before_utc
    try:
        subject = regional_subject(name.partition(".")[0], region)
        if certificate.subject.public_bytes() != subject.public_bytes():
            raise TrustError(f"it is not called {subject.rfc4514_string()}")
        key = new_key()
        made = issue_zonal(
            regional,
            key.public_key(),
            label=secrets.token_hex(8),
            region=region,
            serial=1,
            crl_id=secrets.token_bytes(16),
            now=at,
        )
        zonal, key = Authority(key, made), new_key()
        made = issue_instance(zonal, key.public_key(), instance_id=_PROBE, region=region, serial=1, now=at)
        instance = Authority(key, made)
        leaf = issue_leaf(
            instance, key.public_key(), module_id=f"{_PROBE}-enc{0:016x}", region=region, now=at
        )
        ders = [one.public_bytes(Encoding.DER) for one in (root, certificate, zonal.certificate, made, leaf)]
        validate_chain(ders[-1], ders[:-1], [root], at)
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension, CloisterError) as error:
        raise TrustError(f"the authority '{name}' cannot vouch for enclaves: {error}") from error
