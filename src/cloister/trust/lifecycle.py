"""What an owner does with a host's root: make it, replace it, take its key away, bring it back, share it."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from cloister.pki import Authority
from cloister.trust.files import (
    TrustError,
    TrustMissingError,
    check_elsewhere,
    locked,
    make_directory,
    remove,
    reporting,
)
from cloister.trust.homes import OFFLINE_SPAN, save_root
from cloister.trust.host import Host, known_host, new_instance_id, read_host, write_host
from cloister.trust.incoming import read_incoming, region_of
from cloister.trust.keyed import KeyedCertificate, join, keyed, read_keyed, write_keyed
from cloister.trust.renewal import covered_until, issue_series, renew, root_entry
from cloister.trust.roots import (
    OVERLAP,
    NewRoot,
    adopt,
    check_keys,
    fingerprint,
    read_root,
    root_or_none,
    settle,
)
from cloister.trust.token import Pin, no_pin

LEVELS = ("root", "regional", "zonal", "instance")


def establish(directory: Path, host: Host, make: Callable[[], NewRoot], now: datetime) -> bool:
    """Make the root of trust or complete it; an existing root and identity stay; raise TrustError.

    Returns whether there was none before.
    """
    host.check()
    with reporting(directory):
        make_directory(directory)
        with locked(directory):
            made = _establish(directory, make, now)
            if read_host(directory) is None:
                write_host(directory, host)
            have = read_host(directory) or host
            renew(directory, read_root(directory), region=have.region, instance_id=have.instance_id, now=now)
    return made


def _establish(directory: Path, make: Callable[[], NewRoot], now: datetime) -> bool:
    if root_or_none(directory) is not None:
        settle(directory)
        return False
    left = read_keyed(directory / "root.key")
    if len(left) == 1:  # its certificate was not published yet, or is damaged
        adopt(directory, NewRoot(left[0].certificate, left[0]), now)
        return False
    try:
        read_root(directory)
    except TrustMissingError:
        adopt(directory, make(), now)
    return True


def rotate_root(
    directory: Path, make: Callable[[], NewRoot], now: datetime, *, overlap: timedelta = OVERLAP
) -> bool:
    """Replace the root; the old one's documents are accepted for the overlap; raise TrustError.

    Returns whether the root is another one now: the file of an offline key may hold the very root that this
    host has, as it does when an interrupted rotation is gone on with.
    """
    with reporting(directory):
        old, host = read_root(directory), known_host(directory)
        new = make()
        with locked(directory):
            _unchanged(directory, old)
            adopt(directory, new, now, overlap=overlap)
            renew(directory, new.certificate, region=host.region, instance_id=host.instance_id, now=now)
    return new.certificate != old


def rotate_below(
    directory: Path,
    level: str,
    now: datetime,
    *,
    root: Authority | None = None,
    span: timedelta | None = timedelta(),
    pin: Pin = no_pin,
) -> None:
    """Replace the regional, zonal or instance authority and what is below it; raise TrustError.

    A regional one needs the root's key: ``root``, or this host's.
    """
    with reporting(directory):
        certificate, host = read_root(directory), known_host(directory)
        series = None
        if level == "regional":
            root = _signer(directory, certificate, root, pin)
            series = issue_series(
                root, region=host.region, now=now, span=OFFLINE_SPAN if span is None else span
            )
        with locked(directory):
            _unchanged(directory, certificate)
            settle(directory)
            if series is not None:
                write_keyed(directory / "regional.pem", series)
            if level == "zonal":
                remove(directory / "zonal.pem")
            remove(directory / "instance.pem")
            renew(directory, certificate, region=host.region, instance_id=host.instance_id, now=now)


def take_offline(
    directory: Path,
    path: Path | None,
    now: datetime,
    *,
    passphrase: bytes | None = None,
    span: timedelta | None = None,
    pin: Pin = no_pin,
) -> datetime:
    """Issue regional authorities ahead and take the root's key away; raise TrustError.

    A key in ``root.key`` goes to ``path``, and from here once that copy was read back and tried; a key on a
    token stays there, and the token can be unplugged. Returns until when this host can do without.
    """
    with reporting(directory):
        certificate, host = read_root(directory), known_host(directory)
        entry = root_entry(directory, certificate)
        if entry is None:
            raise TrustError(f"the root's key is not on this host: {directory / 'root.key'} does not hold it")
        if (path is None) != (entry.uri is not None):
            raise TrustError(
                "the root's key is on a token and stays there: name no file"
                if path is not None
                else "name the file that the root's key is to go to"
            )
        if path is not None:
            check_elsewhere(directory, path)
        root = entry.open(pin=pin)
        series = issue_series(root, region=host.region, now=now, span=OFFLINE_SPAN if span is None else span)
        with locked(directory):
            _unchanged(directory, certificate)
            settle(directory)
            if path is not None:  # first, so that a medium that cannot be written changes nothing here
                save_root(path, root, passphrase)
            write_keyed(directory / "regional.pem", series)
            if path is not None:
                remove(directory / "root.key")
            renew(directory, certificate, region=host.region, instance_id=host.instance_id, now=now)
    return covered_until(series, now) or now


def delegate(
    directory: Path,
    region: str,
    now: datetime,
    *,
    root: Authority | None = None,
    span: timedelta | None = None,
    passphrase: bytes | None = None,
    pin: Pin = no_pin,
) -> bytes:
    """Return a bundle that lets another host issue under this root in a region; raise TrustError.

    It is the root's certificate and regional authorities with their keys, encrypted under the passphrase.
    """
    with reporting(directory):
        have = root_or_none(directory) if root is not None else read_root(directory)
        certificate = root.certificate if root is not None and have is None else read_root(directory)
        root = _signer(directory, certificate, root, pin)
    series = issue_series(root, region=region, now=now, span=OFFLINE_SPAN if span is None else span)
    sealed = [keyed(entry.open(), passphrase=passphrase) for entry in series]
    return join([KeyedCertificate(certificate), *sealed])


def bring_in(
    directory: Path,
    content: bytes,
    now: datetime,
    *,
    passphrase: bytes | None = None,
    replace: bool = False,
    overlap: timedelta = OVERLAP,
    host: Host | None = None,
    region: str | None = None,
) -> NewRoot:
    """Take in a root with its key, or a bundle; raise TrustError.

    Another root than the one here is taken only to replace it. ``host`` is for a host that has no identity
    yet; a bundle's region goes before its own, and has to be ``region`` where one is asked for.
    """
    new = read_incoming(content, passphrase, now)
    with reporting(directory):
        make_directory(directory)
        with locked(directory):
            have = read_host(directory)
            wish, region = region, region_of(new.series[0].certificate) if new.series else None
            if wish is not None and region not in (None, wish):
                raise TrustError(f"the bundle is for {region}, not {wish}: ask for another")
            if have is not None and region not in (None, have.region):
                raise TrustError(
                    f"the bundle is for {region}, and this host is in {have.region}: "
                    f"ask for another, or say 'cloister host set --region {region}'"
                )
            settle(directory)
            old = root_or_none(directory)
            keys = read_keyed(directory / "root.key")
            if old is None and (not replace or any(entry.certificate != new.certificate for entry in keys)):
                with suppress(TrustMissingError):
                    read_root(directory)  # damaged: whether it is the file's cannot be told
            if old is not None and old != new.certificate and not replace:
                raise TrustError(
                    f"this host has a root already, {fingerprint(old)[:16]}...: "
                    "--replace takes this one instead"
                )
            if have is None:
                have = host or Host(region or "us-east-1", new_instance_id())
                have = Host(region or have.region, have.instance_id, have.role_arn, have.document_map)
                have.check()
                write_host(directory, have)
            adopt(directory, new, now, overlap=overlap)
            renew(directory, new.certificate, region=have.region, instance_id=have.instance_id, now=now)
    return new


def _signer(directory: Path, certificate: x509.Certificate, root: Authority | None, pin: Pin) -> Authority:
    if root is None:
        check_keys(directory, certificate)
        entry = root_entry(directory, certificate)
        if entry is None:
            raise TrustError("the root's key is not on this host: name the file it is in with --root-key")
        return entry.open(pin=pin)
    if root.certificate != certificate:
        raise TrustError("the key is another root's: expected the one this host issues under")
    return root


def _unchanged(directory: Path, root: x509.Certificate) -> None:
    if read_root(directory) != root:
        raise TrustError(f"somebody else has just replaced the root of trust in {directory}: look again")
