"""Where a root's key can live: in this host's ``root.key``, on a token, or in a file kept elsewhere."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.pki import Authority, issue_root
from cloister.trust.files import TrustError, read, save_text
from cloister.trust.keyed import join, keyed, name_of, split
from cloister.trust.renewal import issue_series, new_key
from cloister.trust.roots import NewRoot, check_local_root
from cloister.trust.token import Pin, make_token_key, no_pin

OFFLINE_SPAN: Final = timedelta(days=365)
"""For how long regional authorities are issued ahead of time, unless asked otherwise."""
MAX_SPAN: Final = timedelta(days=3653)


@dataclass(frozen=True, slots=True)
class InFile:
    """On this host, in ``root.key``."""


@dataclass(frozen=True, slots=True)
class OnToken:
    """On a token, which it never leaves."""

    uri: str
    pin: Pin = no_pin


@dataclass(frozen=True, slots=True)
class Offline:
    """In a file that is carried away, encrypted unless there is no passphrase."""

    path: Path
    passphrase: bytes | None


Home = InFile | OnToken | Offline


def make_root(
    home: Home, *, region: str, now: datetime, span: timedelta | None = None, label: str = ""
) -> NewRoot:
    """Make a root, its key where it is to live, and the regional authorities that need it; raise TrustError.

    A key or root that is there already is used: what was interrupted is gone on with.
    """
    match home:
        case Offline(path, passphrase):
            root = _offline_root(path, passphrase, label, now)
            entry = None
        case OnToken(uri, pin):
            root = _self_signed(make_token_key(uri, pin), label, now)
            entry = keyed(root)
        case _:
            root = _self_signed(new_key(), label, now)
            entry = keyed(root)
    if span is None:
        span = timedelta() if isinstance(home, InFile) else OFFLINE_SPAN
    return NewRoot(root.certificate, entry, issue_series(root, region=region, now=now, span=span))


def save_root(path: Path, root: Authority, passphrase: bytes | None) -> None:
    """Write a root and its key to a file, and make sure that it can be read; raise TrustError.

    A file that is there already must hold this very root.
    """
    if not path.exists():
        save_text(path, join([keyed(root, passphrase=passphrase)]))
    if load_root(path, passphrase).certificate != root.certificate:
        raise TrustError(f"'{path}' holds another root: name a file that is not there yet")


def load_root(path: Path, passphrase: bytes | None) -> Authority:
    """Read a root and its key from a file, and try the key; raise TrustError."""
    try:
        content = read(path)
    except OSError as error:
        raise TrustError(f"'{path}' cannot be read: {error.strerror}") from error
    entries = split(content or b"")
    if len(entries) != 1 or not entries[0].secret:
        raise TrustError(f"'{path}' does not hold a root with its key: expected what take-offline writes")
    if entries[0].uri is not None:  # the file would choose the library that this process loads
        raise TrustError(
            f"'{path}' names a key on a token, and holds none: expected what take-offline writes"
        )
    check_local_root(entries[0].certificate)
    root = entries[0].open(passphrase=passphrase)
    probe = secrets.token_bytes(32)
    try:
        root.key.public_key().verify(
            root.key.sign(probe, ec.ECDSA(hashes.SHA384())), probe, ec.ECDSA(hashes.SHA384())
        )
    except InvalidSignature as error:
        raise TrustError(f"the key of {name_of(root.certificate)} in '{path}' does not sign") from error
    return root


def _offline_root(path: Path, passphrase: bytes | None, label: str, now: datetime) -> Authority:
    if not path.exists():
        save_root(path, _self_signed(new_key(), label, now), passphrase)
    return load_root(path, passphrase)


def _self_signed(key: ec.EllipticCurvePrivateKey, label: str, now: datetime) -> Authority:
    certificate = issue_root(key, serial=secrets.randbits(128) | 1, now=now, label=label)
    certificate.verify_directly_issued_by(certificate)
    return Authority(key, certificate)
