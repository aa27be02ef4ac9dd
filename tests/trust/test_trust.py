"""The root of trust on disk: made once, recovered from any half-written state, renewed in time."""

import fcntl
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from cloister.attestation import Expected, sign, verify
from cloister.errors import CloisterError
from cloister.nsm import Credentials
from cloister.pki import PkiError
from cloister.trust import (
    DOCUMENT_MAPS,
    Trust,
    TrustDamagedError,
    TrustError,
    TrustMissingError,
    initialise,
    open_trust,
    set_host,
)
from cloister.trust import files as trust_files

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
INSTANCE_ID = "i-0123456789abcdef0"
MODULE_ID = f"{INSTANCE_ID}-enc0198bc503b57519e"
ROLE = "arn:aws:iam::123456789012:role/enclave"
PCRS = {0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x03" * 48}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a place for the root of trust, not yet made."""
    return tmp_path / "state" / "pki"


@pytest.fixture
def trust(directory: Path) -> Trust:
    """Return a root of trust just made."""
    return initialise(directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)


def check(trust: Trust, credentials: Credentials, now: datetime) -> None:
    """Sign with the credentials and verify against the root."""
    document = sign(credentials, module_id=MODULE_ID, now=now, pcrs=PCRS)
    verify(document, roots=[trust.root_certificate], now=now, expect=Expected(pcrs=PCRS))


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file's content."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_documents_signed_with_it_verify(trust: Trust) -> None:
    """Credentials of a fresh root of trust sign documents that verify under its root, for their 3 hours."""
    credentials = trust.enclave_credentials(MODULE_ID, NOW)
    assert credentials.not_after == NOW + timedelta(hours=3)
    for moment in (NOW, NOW + timedelta(hours=3)):
        check(trust, credentials, moment)
    assert len(credentials.cabundle) == 4


def test_only_the_owner_can_read_it(trust: Trust) -> None:
    """The directory is 0700 and every file 0600, whatever the umask."""
    assert trust.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in trust.directory.iterdir()} == {0o600}
    trust.directory.chmod(0o755)
    initialise(trust.directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)
    assert trust.directory.stat().st_mode & 0o777 == 0o700


def test_making_it_again_changes_nothing(trust: Trust) -> None:
    """The second initialise keeps root, authorities and identity."""
    before = contents(trust.directory)
    again = initialise(trust.directory, region="us-east-1", instance_id="i-00000000", now=NOW)
    assert contents(trust.directory) == before
    assert (again.region, again.instance_id) == ("eu-central-1", INSTANCE_ID)
    assert again == open_trust(trust.directory) == trust


@pytest.mark.parametrize("name", ["host.json", "root.pem", "regional.pem", "zonal.pem", "instance.pem"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "garbage"])
def test_a_half_written_state_recovers(trust: Trust, name: str, damage: str) -> None:
    """Each file but the root's key is made again when it is missing or damaged, and the root stays.

    A damaged identity is refused: another in its place would change PCR3 and PCR4 unasked.
    """
    path = trust.directory / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-60], "garbage": b"\xff\x00" * 50}[damage])
    if name == "host.json" and damage != "gone":
        with pytest.raises(TrustError, match="identity, is damaged: restore it"):
            initialise(trust.directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)
        return
    again = initialise(trust.directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)
    assert again.root_certificate == trust.root_certificate
    check(again, again.enclave_credentials(MODULE_ID, NOW), NOW)


def test_a_crash_before_the_root_was_published_recovers(trust: Trust) -> None:
    """A damaged root key whose certificate nobody has seen is replaced; leftovers of writing are no harm."""
    for name in ("root.pem", "host.json", "regional.pem", "zonal.pem", "instance.pem"):
        (trust.directory / name).unlink()
    (trust.directory / "root.key").write_bytes(b"")
    (trust.directory / ".root.pem.new").write_bytes(b"half")
    again = initialise(trust.directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)
    assert again.root_certificate != trust.root_certificate
    check(again, again.enclave_credentials(MODULE_ID, NOW), NOW)
    assert not [path for path in trust.directory.iterdir() if path.name.endswith(".new")]


def test_a_damaged_root_key_is_never_replaced_silently(trust: Trust) -> None:
    """When the root's certificate is out and its key is unreadable, the owner has to decide."""
    (trust.directory / "root.key").write_bytes(b"garbage")
    with pytest.raises(TrustError, match="damaged"):
        initialise(trust.directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)


def test_a_damaged_root_without_its_key_is_named(trust: Trust) -> None:
    """A root certificate that cannot be read and whose key is elsewhere cannot be made again."""
    (trust.directory / "root.key").unlink()
    trust.root_pem_path.write_bytes(b"garbage")
    with pytest.raises(TrustError, match=r"root\.pem, this host's root, is damaged: restore it"):
        initialise(trust.directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)


def test_a_root_key_kept_elsewhere_serves_until_the_regional_authority_ends(trust: Trust) -> None:
    """Without the root's key credentials are still issued, until a new regional authority is needed."""
    (trust.directory / "root.key").unlink()
    again = initialise(trust.directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)
    later = NOW + timedelta(days=13)
    check(again, again.enclave_credentials(MODULE_ID, later), later)
    with pytest.raises(TrustError, match="regional authority has run out"):
        again.enclave_credentials(MODULE_ID, NOW + timedelta(days=15))


@pytest.mark.parametrize(
    ("later", "renewed"),
    [
        (timedelta(hours=20), set()),
        (timedelta(hours=22), {"instance.pem"}),
        (timedelta(days=5, hours=1), {"instance.pem", "zonal.pem"}),
        (timedelta(days=14, hours=1), {"instance.pem", "zonal.pem", "regional.pem"}),
        (timedelta(days=400), {"instance.pem", "zonal.pem", "regional.pem"}),
        (timedelta(minutes=-30), {"instance.pem", "zonal.pem"}),
        (timedelta(hours=-23), {"instance.pem", "zonal.pem", "regional.pem"}),
    ],
)
def test_authorities_are_renewed_before_they_end(trust: Trust, later: timedelta, renewed: set[str]) -> None:
    """Each is issued again while it outlives all it issues, or when the clock was set back."""
    before = contents(trust.directory)
    moment = NOW + later
    credentials = trust.enclave_credentials(MODULE_ID, moment)
    after = contents(trust.directory)
    assert {name for name in after if after[name] != before[name]} == renewed
    for at in (moment, credentials.not_after):
        check(trust, credentials, at)
    for der in credentials.cabundle:
        assert x509.load_der_x509_certificate(der).not_valid_after_utc >= credentials.not_after


def test_a_clock_before_the_root_is_named(trust: Trust) -> None:
    """A host whose clock is years behind is told so."""
    with pytest.raises(TrustError, match="clock says 1970-01-01"):
        trust.enclave_credentials(MODULE_ID, datetime(1970, 1, 1, tzinfo=UTC))


def test_the_identity_can_change(trust: Trust) -> None:
    """A new instance id gets a new instance certificate, and the role is kept apart from it."""
    assert trust.role_arn is None
    changed = set_host(trust.directory, role_arn=ROLE)
    assert (changed.instance_id, changed.role_arn) == (INSTANCE_ID, ROLE)
    changed = set_host(trust.directory, instance_id="i-0fedcba9876543210")
    assert (changed.instance_id, changed.role_arn) == ("i-0fedcba9876543210", ROLE)
    assert json.loads((trust.directory / "host.json").read_text())["role_arn"] == ROLE
    credentials = changed.enclave_credentials("i-0fedcba9876543210-enc0198bc503b57519e", NOW)
    instance = x509.load_der_x509_certificate(credentials.cabundle[-1])
    assert "i-0fedcba9876543210" in instance.subject.rfc4514_string()


def test_the_form_of_documents_is_kept(trust: Trust) -> None:
    """Documents have the form of AWS's today until the host is told otherwise; older files tell nothing."""
    assert trust.document_map == "indefinite"
    for form in ("definite", "indefinite", "definite"):
        assert set_host(trust.directory, document_map=form).document_map == form
    assert set_host(trust.directory, role_arn=ROLE).document_map == "definite"
    assert set_host(trust.directory, no_role=True).role_arn is None
    path = trust.directory / "host.json"
    old = {"region": "eu-central-1", "instance_id": INSTANCE_ID, "role_arn": None}
    path.write_text(json.dumps(old))
    assert open_trust(trust.directory).document_map == DOCUMENT_MAPS[0]
    with pytest.raises(TrustError, match="'both' is no form of a map: expected indefinite or definite"):
        set_host(trust.directory, document_map="both")


@pytest.mark.parametrize(
    "role", ["", "enclave", "arn:aws:iam::12:role/x", "arn:aws:iam::123456789012:user/x", ROLE + "\n"]
)
def test_a_role_that_is_none_is_refused(directory: Path, role: str) -> None:
    """PCR3 is made of a role's ARN and of nothing else."""
    with pytest.raises(TrustError, match="role ARN"):
        initialise(directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW, role_arn=role)
    assert not directory.exists()


def test_wrong_names_are_refused_before_anything_is_written(directory: Path) -> None:
    """A region or instance id that certificates cannot carry leaves no trace."""
    for region, instance_id in (("EU", INSTANCE_ID), ("eu-central-1", "laptop")):
        with pytest.raises(PkiError):
            initialise(directory, region=region, instance_id=instance_id, now=NOW)
    assert not directory.exists()


def test_a_host_without_root_is_told_what_to_do(directory: Path, tmp_path: Path) -> None:
    """Opening what was never made says 'cloister setup'; a damaged certificate is named."""
    with pytest.raises(TrustMissingError, match="cloister setup"):
        open_trust(directory)
    made = initialise(directory, region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)
    made.root_pem_path.write_bytes(b"garbage")
    with pytest.raises(TrustDamagedError, match=r"root\.pem, .* is damaged: 'cloister pki init' makes it"):
        open_trust(directory)
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(TrustError, match="out of reach"):
        initialise(blocked / "pki", region="eu-central-1", instance_id=INSTANCE_ID, now=NOW)


def test_a_lock_that_is_never_released_does_not_hang(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for another process has an end, and says which lock."""
    monkeypatch.setattr(trust_files, "LOCK_TIMEOUT", 0.05)
    descriptor = os.open(trust.directory / ".lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(TrustError, match="lock"):
            trust.enclave_credentials(MODULE_ID, NOW)
    finally:
        os.close(descriptor)
    trust.enclave_credentials(MODULE_ID, NOW)


def test_many_enclaves_can_ask_at_once(trust: Trust) -> None:
    """Concurrent requests when everything has run out renew it once and all get a valid chain."""
    later = NOW + timedelta(days=30)
    results: list[Credentials | CloisterError] = []

    def ask() -> None:
        try:
            results.append(trust.enclave_credentials(MODULE_ID, later))
        except CloisterError as error:
            results.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({result.cabundle for result in results if isinstance(result, Credentials)}) == 1
    for result in results:
        assert isinstance(result, Credentials)
        check(trust, result, later)
