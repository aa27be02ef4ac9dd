"""An enclave that lives for days: its leaf and everything above it are renewed in time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509

from cloister.attestation import Document, Expected, verify
from cloister.nsm import Attest, SecurityModule, SignedDocument, decode_response, encode_request
from cloister.pcrs import PcrBank
from cloister.trust import Trust, initialise

BORN = datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=UTC)
INSTANCE_ID = "i-0123456789abcdef0"
MODULE_ID = f"{INSTANCE_ID}-enc0198bc503b57519e"
PCRS = {0: b"\x01" * 48}
ATTEST = encode_request(Attest())
NAMES = ("regional", "zonal", "instance", "leaf")


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """Return a root of trust made some time before the enclave starts."""
    return initialise(tmp_path / "pki", region="local", instance_id=INSTANCE_ID, now=BORN)


@pytest.fixture
def module(trust: Trust) -> SecurityModule:
    """Return a security module whose credentials are that host's."""
    return SecurityModule(
        module_id=MODULE_ID,
        bank=PcrBank(PCRS),
        credentials=lambda now: trust.enclave_credentials(MODULE_ID, now),
    )


def document_at(module: SecurityModule, trust: Trust, now: datetime) -> Document:
    """Ask for a document and verify it as of the moment it was made."""
    answer = decode_response(module.handle(ATTEST, now=now, random=bytes))
    assert isinstance(answer, SignedDocument)
    expect = Expected(pcrs=PCRS, max_age=timedelta(0))
    return verify(answer.document, roots=[trust.root_certificate], now=now, expect=expect)


def moments(start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield times at steps that fall on no hour, so that every edge is met from some side."""
    now = start
    while now < end:
        yield now
        now += timedelta(minutes=53, seconds=17, milliseconds=311)


def chain_of(document: Document) -> dict[str, x509.Certificate]:
    """Return a document's certificates below the root, by name."""
    certificates = [*document.cabundle[1:], document.certificate]
    return dict(zip(NAMES, map(x509.load_der_x509_certificate, certificates), strict=True))


def test_documents_of_three_days_always_lie_within_their_chain(trust: Trust, module: SecurityModule) -> None:
    """Over three days in which every authority is renewed, each document verifies at its own time.

    It lies within its leaf and every issuer, and the leaf stays good for the half hour that it is promised.
    """
    start = BORN + timedelta(days=12, hours=18)  # so that the regional authority runs out in these days
    seen: dict[str, list[bytes]] = {name: [] for name in NAMES}
    for now in moments(start, start + timedelta(days=3)):
        document = document_at(module, trust, now)
        assert document.time == now.replace(microsecond=now.microsecond // 1000 * 1000)
        for name, certificate in chain_of(document).items():
            assert certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
            serial = certificate.serial_number.to_bytes(20, "big")
            if serial not in seen[name]:
                seen[name].append(serial)
        assert chain_of(document)["leaf"].not_valid_after_utc - now >= timedelta(minutes=30)
    counts = {name: len(serials) for name, serials in seen.items()}
    assert counts["regional"] == 2
    assert counts["zonal"] >= 2
    assert counts["instance"] >= 3
    assert counts["leaf"] >= 24
    times = [int.from_bytes(serial[-8:], "big") for serial in seen["leaf"]]
    assert all(
        later - earlier <= timedelta(hours=2, minutes=30, seconds=54 * 60).total_seconds()
        for earlier, later in pairwise(times)
    )


@pytest.mark.parametrize(
    "age",
    [
        timedelta(hours=2, minutes=29, seconds=59),
        timedelta(hours=2, minutes=30),
        timedelta(hours=2, minutes=30, seconds=1),
        timedelta(hours=2, minutes=59, seconds=59),
        timedelta(hours=3),
        timedelta(hours=3, seconds=1),
        timedelta(days=400),
    ],
    ids=str,
)
def test_leaf_at_every_age(trust: Trust, module: SecurityModule, age: timedelta) -> None:
    """A leaf serves up to half an hour before its end, and no document is ever made of an older one."""
    first = document_at(module, trust, BORN)
    later = document_at(module, trust, BORN + age)
    assert (later.certificate == first.certificate) == (age < timedelta(hours=2, minutes=30))


@pytest.mark.parametrize("back", [timedelta(seconds=1), timedelta(seconds=30)], ids=str)
def test_clock_that_is_put_back_gets_a_leaf_of_its_own(
    trust: Trust, module: SecurityModule, back: timedelta
) -> None:
    """No document is older than its leaf's beginning, also when the host's clock was put back a little."""
    now = BORN + timedelta(hours=1)
    first = document_at(module, trust, now)
    second = document_at(module, trust, now - back)
    leaf = chain_of(second)["leaf"]
    assert second.certificate != first.certificate
    assert leaf.not_valid_before_utc <= second.time <= leaf.not_valid_after_utc
    assert leaf.serial_number & 0xFFFF_FFFF == int((now - back).timestamp())
