"""What a host's root of trust looks like now: read, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from cloister.pki import local_name
from cloister.trust.files import reporting
from cloister.trust.keyed import KeyedCertificate, read_keyed
from cloister.trust.renewal import (
    INSTANCE_RESERVE,
    REGIONAL_RESERVE,
    ZONAL_RESERVE,
    choose,
    covered_until,
    issued_by,
    root_entry,
)
from cloister.trust.roots import check_keys, read_retired
from cloister.trust.state import Trust, open_trust


@dataclass(frozen=True, slots=True)
class Link:
    """A certificate of the chain that enclaves started now would get."""

    level: str
    certificate: x509.Certificate
    renewal: datetime | None
    """When the next one is issued, or takes over; the root has no next one."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A host's root of trust at one moment."""

    trust: Trust
    chain: Sequence[Link]
    """From the root down; it ends early where the next is issued only when it is asked for."""
    key_here: bool
    """Whether ``root.key`` holds the root's key or its address."""
    token: str | None
    """The key's address, if it lies on a token."""
    series: int
    """How many regional authorities are issued, for now and later."""
    covered_until: datetime | None
    """Until when they follow each other without the root's key; None when none is in force."""
    retired: Sequence[tuple[x509.Certificate, datetime]]
    """Replaced roots and until when their documents are accepted."""


def look(directory: Path, now: datetime) -> Overview:
    """Read the state of a host's root of trust; raise TrustMissingError, TrustDamagedError, TrustError."""
    with reporting(directory):
        trust = open_trust(directory)
        root = trust.root_certificate
        check_keys(directory, root)
        entry = root_entry(directory, root)
        series = issued_by(root, read_keyed(directory / "regional.pem"))
        series = [one for one in series if one.certificate.not_valid_after_utc > now]
        retired = [one for one in read_retired(directory) if one[1] > now and one[0] != root]
        chain = _chain(trust, series, now)
    return Overview(
        trust=trust,
        chain=chain,
        key_here=entry is not None,
        token=entry.uri if entry is not None else None,
        series=len(series),
        covered_until=covered_until(series, now),
        retired=retired,
    )


def _chain(trust: Trust, series: list[KeyedCertificate], now: datetime) -> list[Link]:
    found = [Link("root", trust.root_certificate, None)]
    below = (
        ("regional", series, (), REGIONAL_RESERVE),
        ("zonal", read_keyed(trust.directory / "zonal.pem"), ("zonal",), ZONAL_RESERVE),
        ("instance", read_keyed(trust.directory / "instance.pem"), (trust.instance_id,), INSTANCE_RESERVE),
    )
    for level, entries, labels, reserve in below:
        name = local_name(*labels, trust.region)
        authority = choose(entries, found[-1].certificate, name, reserve, now)
        if authority is None:
            break
        end = authority.certificate.not_valid_after_utc
        found.append(Link(level, authority.certificate, end - reserve))
    return found
