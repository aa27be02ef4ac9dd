"""The roots of a host: the one it issues under, those just retired, and how one takes another's place.

``root.pem`` is the truth at every moment. A new root's key and regional authorities are put beside the old
ones first; one rename of ``root.pem`` makes them count; then the old ones are taken away. Losing power at any
point leaves one root or the other, whole.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cloister.pki import PkiError, local_name, root_subject
from cloister.trust.files import (
    TrustDamagedError,
    TrustError,
    TrustMissingError,
    read,
    remove,
    was_in_use,
    write,
)
from cloister.trust.keyed import KeyedCertificate, name_of, read_keyed, write_keyed
from cloister.trust.renewal import issued_by

OVERLAP: Final = timedelta(days=1)
"""How long a retired root's documents are still accepted; enclaves leave it within 3 hours."""
HOW_TO_BEGIN: Final = "run 'cloister setup', 'cloister pki init', or 'cloister pki import BUNDLE'"
_AMAZON_ROOT: Final = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"


@dataclass(frozen=True, slots=True)
class NewRoot:
    """A root that a host is to issue under, with what it needs for that."""

    certificate: x509.Certificate
    entry: KeyedCertificate | None
    """What ``root.key`` is to hold; None where the key is kept elsewhere."""
    series: Sequence[KeyedCertificate] = ()
    """Regional authorities issued ahead of time."""


def read_root(directory: Path) -> x509.Certificate:
    """Return the root's certificate; raise TrustMissingError, TrustDamagedError."""
    path = directory / "root.pem"
    pem = read(path)
    if pem is None and not was_in_use(directory):
        raise TrustMissingError(f"there is no root of trust in {directory}: {HOW_TO_BEGIN}")
    try:
        return x509.load_pem_x509_certificate(pem or b"")
    except ValueError as error:
        if len(read_keyed(directory / "root.key")) == 1:
            remedy = "'cloister pki init' makes it again from root.key"
        else:
            remedy = (
                "restore it, bring the root's key or a bundle with 'cloister pki import --replace', "
                f"or move {directory} away for a new root"
            )
        raise TrustDamagedError(path, "this host's root", remedy) from error


def root_or_none(directory: Path) -> x509.Certificate | None:
    """Return the root's certificate if there is one that can be read."""
    try:
        return read_root(directory)
    except (TrustMissingError, TrustDamagedError):
        return None


def check_keys(directory: Path, root: x509.Certificate) -> None:
    """Refuse a ``root.key`` that is damaged or another root's, but for one just retired; raise TrustError."""
    path = directory / "root.key"
    keys = [entry.certificate for entry in read_keyed(path)]
    if not keys and path.exists():
        remedy = "restore it, remove it if the key is kept elsewhere, or move all away for a new root"
        raise TrustDamagedError(path, "the root's key", remedy)
    if keys and root not in keys:
        retired = [certificate for certificate, _ in read_retired(directory)]
        if any(certificate not in retired for certificate in keys):
            raise TrustError(f"{path} is another root's: restore it, or move {directory} away for a new root")


def trusted_roots(directory: Path, now: datetime) -> tuple[x509.Certificate, ...]:
    """Return the roots whose documents this host accepts: its own, then those retired a moment ago.

    Reads two small files, so that whoever asks each time learns of a new root at once; raise TrustError.
    """
    try:
        current = read_root(directory)
        retired = [root for root, until in read_retired(directory) if until > now and root != current]
    except OSError as error:
        raise TrustError(f"the root of trust in {directory} is out of reach: {error.strerror}") from error
    return (current, *retired)


def read_retired(directory: Path) -> list[tuple[x509.Certificate, datetime]]:
    """Return the roots that were replaced, and until when each is still trusted."""
    try:
        return [
            (
                x509.load_pem_x509_certificate(member["certificate"].encode()),
                datetime.fromisoformat(member["until"]).astimezone(UTC),
            )
            for member in json.loads(read(directory / "retired.json") or b"[]")
        ]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise TrustError(f"{directory / 'retired.json'} is damaged: restore it, or remove it") from error


def adopt(directory: Path, new: NewRoot, now: datetime, *, overlap: timedelta = OVERLAP) -> None:
    """Make a root this host's own, in place of the one it has; called under the lock; raise TrustError.

    Without overlap no root that was replaced, now or before, is accepted any longer.
    """
    check_local_root(new.certificate)
    settle(directory)
    old = root_or_none(directory)
    replaced = old if old != new.certificate else None
    keys, series = directory / "root.key", directory / "regional.pem"
    if replaced is not None or not overlap:
        _retire(directory, replaced, now, overlap)
    if new.entry is not None:
        write_keyed(
            keys, [*(entry for entry in read_keyed(keys) if entry.certificate == replaced), new.entry]
        )
    if new.series:
        others = issued_by(replaced, read_keyed(series)) if replaced is not None else []
        write_keyed(series, [*others, *new.series])
    if old != new.certificate:
        write(directory / "root.pem", new.certificate.public_bytes(Encoding.PEM))
    settle(directory)


def settle(directory: Path) -> None:
    """Finish what was interrupted: what belongs to another root than ``root.pem`` goes; raise TrustError."""
    root = root_or_none(directory)
    if root is None:
        return
    check_keys(directory, root)
    path = directory / "root.key"
    keys = read_keyed(path)
    own = [entry for entry in keys if entry.certificate == root]
    if not own and path.exists():
        remove(path)
    elif keys != own:
        write_keyed(path, own)
    path = directory / "regional.pem"
    series = read_keyed(path)
    kept = issued_by(root, series)
    if kept and kept != series:
        write_keyed(path, kept)


def check_local_root(certificate: x509.Certificate) -> None:
    """Refuse a root that is not local, above all one that could be taken for Amazon's; raise TrustError."""
    name = name_of(certificate)
    owners = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if (
        fingerprint(certificate) == _AMAZON_ROOT
        or "nitro-enclaves" in name.lower()
        or any("amazon" in str(owner.value).lower() for owner in owners)
    ):
        raise TrustError(f"the root '{name}' is Amazon's or looks like it: no host issues under such a name")
    if not f".{name}".endswith(f".{local_name()}"):
        raise TrustError(f"the root is called '{name}': expected a name that ends in {local_name()}")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise TrustError(f"the certificate '{name}' is not a root: it has not signed itself") from error
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise TrustError(f"the key of the root '{name}' is not on P-384")
    _check_profile(certificate, key, name)


def _check_profile(certificate: x509.Certificate, key: ec.EllipticCurvePublicKey, name: str) -> None:
    """Hold a root to the one form that ``issue_root`` gives it.

    Whatever else it says could mislead people, as a second name or a homoglyph would, or keep verifiers from
    accepting what it issues.
    """
    try:
        found = {extension.value: extension.critical for extension in certificate.extensions}
    except (ValueError, x509.DuplicateExtension) as error:
        raise TrustError(f"the root '{name}' has not the extensions of one: {error}") from error
    expected = {
        x509.BasicConstraints(ca=True, path_length=None): True,
        x509.SubjectKeyIdentifier.from_public_key(key): False,
        x509.KeyUsage(True, False, False, False, False, True, True, False, False): True,
    }
    if found != expected or not isinstance(certificate.signature_hash_algorithm, hashes.SHA384):
        raise TrustError(f"the root '{name}' has not the extensions of one, or is not signed with SHA-384")
    label = name.removesuffix(local_name()).removesuffix(".")
    try:
        subject = root_subject(label)
    except PkiError as error:
        raise TrustError(f"the root '{name}' has another name than local roots have: {error}") from error
    if certificate.subject.public_bytes() != subject.public_bytes():
        raise TrustError(
            f"the root '{name}' has another name than local roots have: expected {subject.rfc4514_string()}"
        )


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _retire(directory: Path, old: x509.Certificate | None, now: datetime, overlap: timedelta) -> None:
    """Remember the replaced root; without overlap those retired before it are refused from now on too."""
    kept = [(root, until) for root, until in read_retired(directory) if until > now and root != old]
    if not overlap:
        kept = []
    if old is not None:  # also without overlap: settle() has to know whose key it may take away
        kept.append((old, now + overlap))
    members = [
        {"until": until.isoformat(), "certificate": root.public_bytes(Encoding.PEM).decode()}
        for root, until in kept
    ]
    write(directory / "retired.json", (json.dumps(members, indent=2) + "\n").encode())
