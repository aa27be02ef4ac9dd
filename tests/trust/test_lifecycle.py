"""A root's life: replaced, taken offline, brought back, shared among hosts; never Amazon's."""

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cloister.attestation import Expected, VerificationError, sign, verify
from cloister.errors import CloisterError
from cloister.nsm import Credentials
from cloister.pki import Authority
from cloister.trust import (
    OVERLAP,
    Host,
    InFile,
    NewRoot,
    Offline,
    Trust,
    TrustError,
    bring_in,
    delegate,
    establish,
    initialise,
    load_root,
    look,
    make_root,
    open_trust,
    rotate_below,
    rotate_root,
    set_host,
    take_offline,
    trusted_roots,
)
from simulators.local_chain import new_key
from simulators.power_loss import HOST, MODULE_ID, NOW, REGION

PCRS = {0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x03" * 48}
YEAR = timedelta(days=365)
PASSPHRASE = b"correct horse"


def document(credentials: Credentials, now: datetime, module_id: str = MODULE_ID) -> bytes:
    """Sign a document."""
    return sign(credentials, module_id=module_id, now=now, pcrs=PCRS)


def accepted(signed: bytes, roots: tuple[x509.Certificate, ...], now: datetime) -> bool:
    """Tell whether a document verifies; a refusal is for its root alone."""
    try:
        verify(signed, roots=roots, now=now, expect=Expected(pcrs=PCRS))
    except VerificationError as error:
        if error.name != "root":
            raise
        return False
    return True


def check(trust: Trust, now: datetime = NOW) -> bytes:
    """Issue credentials, sign and verify; return the document."""
    signed = document(trust.enclave_credentials(MODULE_ID, now), now)
    assert accepted(signed, trusted_roots(trust.directory, now), now)
    return signed


def rotate(trust: Trust, now: datetime = NOW, **options: timedelta) -> None:
    """Replace the root by another in a file."""
    rotate_root(trust.directory, lambda: make_root(InFile(), region=REGION, now=now), now, **options)


def test_a_root_is_replaced_under_running_enclaves(trust: Trust) -> None:
    """Both roots' documents are accepted for a day; an enclave that runs gets the new one's certificates."""
    old = check(trust)
    rotate(trust)
    new = check(trust)  # the same Trust, as a supervisor holds it
    assert trusted_roots(trust.directory, NOW) == (
        open_trust(trust.directory).root_certificate,
        trust.root_certificate,
    )
    for signed in (old, new):
        assert accepted(signed, trusted_roots(trust.directory, NOW + OVERLAP / 2), NOW)
    later = trusted_roots(trust.directory, NOW + OVERLAP)
    assert accepted(new, later, NOW)
    assert not accepted(old, later, NOW)


def test_a_root_whose_key_is_known_is_refused_at_once(trust: Trust) -> None:
    """Without overlap the old root's documents are refused from the same second on."""
    old = check(trust)
    rotate(trust, overlap=timedelta())
    assert not accepted(old, trusted_roots(trust.directory, NOW), NOW)
    assert b"PRIVATE" in (trust.directory / "root.key").read_bytes()
    assert len(look(trust.directory, NOW).retired) == 0


@pytest.mark.parametrize("home", ["file", "offline"])
def test_distrust_reaches_every_retired_root(trust: Trust, tmp_path: Path, home: str) -> None:
    """A root that was rotated away first and found out to be known later is refused with the last one."""
    leaked = check(trust)
    rotate(trust, NOW + timedelta(hours=1))
    place = InFile() if home == "file" else Offline(tmp_path / "away.key", None)
    later = NOW + timedelta(hours=2)
    rotate_root(
        trust.directory, lambda: make_root(place, region=REGION, now=later), later, overlap=timedelta()
    )
    assert trusted_roots(trust.directory, later) == (open_trust(trust.directory).root_certificate,)
    assert not accepted(leaked, trusted_roots(trust.directory, later), NOW)
    check(trust, later)


def test_the_same_root_brought_in_can_end_the_retired_ones(trust: Trust, tmp_path: Path) -> None:
    """Import of this host's own root without overlap refuses what was retired before."""
    rotate(trust)
    take_offline(trust.directory, tmp_path / "away.key", NOW)
    assert len(trusted_roots(trust.directory, NOW)) == 2
    bring_in(trust.directory, (tmp_path / "away.key").read_bytes(), NOW, overlap=timedelta())
    assert len(trusted_roots(trust.directory, NOW)) == 1


def test_two_rotations_keep_both_old_roots(trust: Trust) -> None:
    """Each root is accepted for its own day, and forgotten at the next rotation after that."""
    first = check(trust)
    rotate(trust, NOW + timedelta(hours=1))
    rotate(trust, NOW + timedelta(hours=2))
    assert len(trusted_roots(trust.directory, NOW + timedelta(hours=3))) == 3
    assert accepted(first, trusted_roots(trust.directory, NOW + timedelta(hours=3)), NOW)
    rotate(trust, NOW + timedelta(days=3))
    assert (trust.directory / "retired.json").read_text().count("BEGIN") == 1


@pytest.mark.parametrize(
    ("level", "changed"),
    [
        ("regional", {"regional.pem", "zonal.pem", "instance.pem"}),
        ("zonal", {"zonal.pem", "instance.pem"}),
        ("instance", {"instance.pem"}),
    ],
)
def test_an_authority_below_the_root_is_replaced(trust: Trust, level: str, changed: set[str]) -> None:
    """It and those below it are new ones, and all else stays."""
    before = {path.name: path.read_bytes() for path in trust.directory.iterdir()}
    rotate_below(trust.directory, level, NOW)
    after = {path.name: path.read_bytes() for path in trust.directory.iterdir()}
    assert {name for name in after if after[name] != before[name]} == changed
    check(trust)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_the_key_goes_offline_and_comes_back(trust: Trust, tmp_path: Path, passphrase: bytes | None) -> None:
    """A host without the key issues for the time asked for, to the minute, and for good once it is back."""
    away = tmp_path / "away.key"
    until = take_offline(trust.directory, away, NOW, passphrase=passphrase, span=YEAR)
    assert until - NOW >= YEAR
    assert not (trust.directory / "root.key").exists()
    assert (b"ENCRYPTED" in away.read_bytes()) == (passphrase is not None)
    assert away.stat().st_mode & 0o777 == 0o600
    for days in range(0, 365, 28):
        check(trust, NOW + timedelta(days=days))
    check(trust, until)
    with pytest.raises(TrustError, match=r"regional authority has run out.*'cloister pki import'"):
        trust.enclave_credentials(MODULE_ID, until + timedelta(seconds=1))
    bring_in(trust.directory, away.read_bytes(), NOW, passphrase=passphrase)
    check(trust, until + timedelta(days=100))
    take_offline(trust.directory, away, until, passphrase=passphrase)  # to the same file: it is this root's


def test_a_slow_clock_is_named_where_nothing_can_be_issued(trust: Trust, tmp_path: Path) -> None:
    """Without the root's key a clock before the first authority is no reason to ask for another one."""
    take_offline(trust.directory, tmp_path / "root.key", NOW)
    with pytest.raises(TrustError, match=r"this host's clock says .* put the clock right"):
        trust.enclave_credentials(MODULE_ID, NOW - timedelta(hours=2))
    check(trust)


def test_lifetimes_stay_the_genuine_ones(trust: Trust, tmp_path: Path) -> None:
    """Regional authorities that are issued ahead live 20 days and an hour each, as those issued in time."""
    take_offline(trust.directory, tmp_path / "away.key", NOW, span=timedelta(days=60))
    series = x509.load_pem_x509_certificates((trust.directory / "regional.pem").read_bytes())
    assert len(series) == 5
    for certificate in series:
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert life == timedelta(days=20, hours=1)
    assert len({certificate.fingerprint(hashes.SHA256()) for certificate in series}) == 5


def test_a_wrong_copy_keeps_the_key_here(trust: Trust, tmp_path: Path) -> None:
    """The key leaves only when its copy was read back: not over another root's file, or with a wrong word."""
    other = initialise(tmp_path / "other", region=REGION, instance_id="i-00000000", now=NOW)
    away = tmp_path / "away.key"
    take_offline(other.directory, away, NOW, passphrase=PASSPHRASE)
    with pytest.raises(TrustError, match="holds another root"):
        take_offline(trust.directory, away, NOW, passphrase=PASSPHRASE)
    with pytest.raises(TrustError, match="the passphrase is wrong"):
        take_offline(trust.directory, away, NOW, passphrase=b"wrong")
    with pytest.raises(TrustError, match="cannot be written"):
        take_offline(trust.directory, tmp_path / "no/such/place", NOW)
    assert look(trust.directory, NOW).key_here
    with pytest.raises(TrustError, match="give its passphrase"):
        load_root(away, None)


@pytest.mark.parametrize("name", ["root.key", "new.key", "../pki/root.key"])
def test_the_key_is_not_carried_onto_itself(trust: Trust, name: str, tmp_path: Path) -> None:
    """A place among the root of trust's own files is refused, by whatever name: the key would be removed."""
    link = tmp_path / "link"
    link.symlink_to(trust.directory / name)
    for path in (trust.directory / name, link):
        with pytest.raises(TrustError, match="among the root of trust's own files"):
            take_offline(trust.directory, path, NOW)
    assert look(trust.directory, NOW).key_here


def test_a_root_can_be_offline_from_the_start(tmp_path: Path) -> None:
    """Its key is never written here, and a second host can be made from the same file."""
    home = Offline(tmp_path / "root.key", PASSPHRASE)
    made = []
    for name in ("first", "second"):
        directory = tmp_path / name
        establish(directory, HOST, lambda: make_root(home, region=REGION, now=NOW, span=YEAR), NOW)
        root = load_root(home.path, PASSPHRASE)
        secret = root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert not any(secret in path.read_bytes() for path in directory.iterdir())
        assert not (directory / "root.key").exists()
        check(open_trust(directory), NOW + timedelta(days=300))
        made.append(open_trust(directory).root_certificate)
    assert made[0] == made[1] == root.certificate


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_several_hosts_stand_under_one_root(trust: Trust, tmp_path: Path, passphrase: bytes | None) -> None:
    """Documents of hosts of two regions, each with authorities of its own, verify under one root."""
    bundle = delegate(trust.directory, "eu-west-1", NOW, passphrase=passphrase, span=timedelta(days=56))
    bring_in(tmp_path / "b", bundle, NOW, passphrase=passphrase, host=Host("us-east-1", "i-00000000"))
    other = open_trust(tmp_path / "b")
    assert (other.region, other.instance_id) == ("eu-west-1", "i-00000000")
    assert not (other.directory / "root.key").exists()
    later = NOW + timedelta(days=50)
    names = []
    for host, module_id in ((trust, MODULE_ID), (other, "i-00000000-enc0198bc503b57519e")):
        signed = document(host.enclave_credentials(module_id, later), later, module_id)
        assert accepted(signed, (trust.root_certificate,), later)
        found = verify(signed, roots=[trust.root_certificate], now=later, expect=Expected(pcrs=PCRS))
        names.append([x509.load_der_x509_certificate(der).subject.rfc4514_string() for der in found.cabundle])
    assert names[0][0] == names[1][0]
    assert not set(names[0][1:]) & set(names[1][1:])


def test_a_bundle_replaces_a_root_only_when_told(trust: Trust, tmp_path: Path) -> None:
    """A host that has a root keeps it unless --replace; then its old documents are accepted for a day."""
    owner = initialise(tmp_path / "owner", region=REGION, instance_id="i-00000000", now=NOW)
    bundle = delegate(owner.directory, REGION, NOW)
    old = check(trust)
    with pytest.raises(TrustError, match=r"has a root already.*--replace"):
        bring_in(trust.directory, bundle, NOW)
    bring_in(trust.directory, bundle, NOW, replace=True)
    assert accepted(check(trust), (owner.root_certificate,), NOW)
    assert accepted(old, trusted_roots(trust.directory, NOW), NOW)
    assert not (trust.directory / "root.key").exists()
    bring_in(trust.directory, delegate(owner.directory, REGION, NOW + YEAR), NOW + YEAR)  # the next year's
    check(trust, NOW + YEAR + timedelta(days=300))


def test_the_region_of_a_shared_root_is_the_bundle_s(trust: Trust, tmp_path: Path) -> None:
    """A bundle for another region is refused, and so is a region that nothing can issue for."""
    bundle = delegate(trust.directory, "eu-west-1", NOW)
    other = initialise(tmp_path / "b", region=REGION, instance_id="i-00000000", now=NOW)
    with pytest.raises(TrustError, match="for eu-west-1, and this host is in eu-central-1"):
        bring_in(other.directory, bundle, NOW, replace=True)
    set_host(other.directory, region="eu-west-1")
    bring_in(other.directory, bundle, NOW, replace=True)
    with pytest.raises(TrustError, match="authorities are for eu-west-1: none can serve us-east-1"):
        set_host(other.directory, region="us-east-1")
    check(other)  # an enclave that started in the old region


def amazon(name: str, organization: str) -> Authority:
    """Return a root that calls itself so."""
    key = new_key()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW, NOW + YEAR)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Authority(key, builder.sign(key, hashes.SHA384()))


@pytest.mark.parametrize(
    ("name", "organization", "reason"),
    [
        ("aws.nitro-enclaves", "Amazon", "Amazon's or looks like it"),
        ("aws.nitro-enclaves", "Cloister", "Amazon's or looks like it"),
        ("local.cloister-enclaves", "Amazon", "Amazon's or looks like it"),
        ("AWS.Nitro-Enclaves.local.cloister-enclaves", "Cloister", "Amazon's or looks like it"),
        ("example.org", "Cloister", "expected a name that ends in local.cloister-enclaves"),
        ("notlocal.cloister-enclaves", "Cloister", "expected a name that ends in"),
        ("local.cloister-enclaves", "Cloister", "has not the extensions of one"),
    ],
)
def test_nothing_signs_as_amazon(trust: Trust, name: str, organization: str, reason: str) -> None:
    """A root of another name than the local ones' is taken in by no way, and leaves no trace."""
    root = amazon(name, organization)
    key = root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = root.certificate.public_bytes(Encoding.PEM)
    before = {path.name: path.read_bytes() for path in trust.directory.iterdir()}
    with pytest.raises(TrustError, match=reason):
        bring_in(trust.directory, key + pem, NOW, replace=True)
    with pytest.raises(TrustError, match=reason):
        rotate_root(trust.directory, lambda: NewRoot(root.certificate, None), NOW)
    assert {path.name: path.read_bytes() for path in trust.directory.iterdir()} == before


def imported(change: Callable[[list[str]], list[str]]) -> Callable[[bytes], bytes]:
    """Return an edit of a bundle's PEM blocks: root, key, authority, key, authority and so on."""

    def edit(bundle: bytes) -> bytes:
        blocks = [f"{block}-----END" for block in bundle.decode().split("-----END")[:-1]]
        ends = [f"-----END{end}" for end in bundle.decode().split("-----END")[1:]]
        tails = [end.splitlines()[0].removeprefix("-----END") for end in ends]
        whole = [
            "-----BEGIN" + block.split("-----BEGIN")[1] + tail
            for block, tail in zip(blocks, tails, strict=True)
        ]
        return "\n".join(change(whole)).encode() + b"\n"

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda _: b"", "cut short or of another kind"),
        (lambda _: b"\x00\xff" * 1000, "cut short or of another kind"),
        (lambda _: b"-----BEGIN CERTIFICATE-----\n" * 30000, "cut short or of another kind"),
        (imported(lambda blocks: blocks[:1]), "a root's certificate and nothing to issue under it"),
        (imported(lambda blocks: blocks[1:]), "holds 0 roots"),
        (imported(lambda blocks: [blocks[0], *blocks]), "holds 2 roots"),
        (imported(lambda blocks: [blocks[0], blocks[1], blocks[4]]), "is another one's"),
        (imported(lambda blocks: [blocks[0], *blocks[3:]]), "none of them is in force"),
    ],
    ids=["empty", "noise", "headers", "root alone", "no root", "two roots", "swapped key", "only later"],
)
def test_a_damaged_bundle_is_named(trust: Trust, edit: Callable[[bytes], bytes], reason: str) -> None:
    """What is not a whole bundle is refused with the reason, and leaves the host as it was."""
    bundle = delegate(trust.directory, REGION, NOW, span=timedelta(days=28))
    before = {path.name: path.read_bytes() for path in trust.directory.iterdir()}
    with pytest.raises(TrustError, match=reason):
        bring_in(trust.directory, edit(bundle), NOW, replace=True)
    assert {path.name: path.read_bytes() for path in trust.directory.iterdir()} == before


def test_a_key_of_another_root_is_never_removed(trust: Trust, tmp_path: Path) -> None:
    """A root.key of a root that this host never had stops with a sentence, for somebody put it there."""
    other = initialise(tmp_path / "other", region=REGION, instance_id="i-00000000", now=NOW)
    shutil.copy(other.directory / "root.key", trust.directory / "root.key")
    with pytest.raises(TrustError, match=r"root\.key is another root's"):
        rotate(trust)
    assert (trust.directory / "root.key").read_bytes() == (other.directory / "root.key").read_bytes()


def test_a_host_of_the_first_layout_goes_on(tmp_path: Path) -> None:
    """Files that an earlier version wrote are used as they are, byte for byte, and can be rotated."""
    directory = tmp_path / "pki"
    shutil.copytree(Path(__file__).parent / "first_layout", directory)
    written = {path.name: path.read_bytes() for path in directory.iterdir()}
    trust = open_trust(directory)
    assert (trust.instance_id, trust.document_map) == (HOST.instance_id, "indefinite")
    check(trust)
    initialise(directory, region="us-east-1", instance_id="i-00000000", now=NOW)
    assert {name: (directory / name).read_bytes() for name in written} == written
    overview = look(directory, NOW)
    assert overview.key_here
    assert [link.level for link in overview.chain] == ["root", "regional", "zonal", "instance"]
    check(trust, NOW + timedelta(days=30))
    rotate(trust, NOW + timedelta(days=30))
    check(trust, NOW + timedelta(days=30))


def test_commands_at_once_leave_one_root(trust: Trust) -> None:
    """Rotations and enclaves at the same time: all end, and every document verifies at some trusted root."""
    results: list[bytes | CloisterError] = []

    def ask() -> None:
        try:
            results.extend(document(trust.enclave_credentials(MODULE_ID, NOW), NOW) for _ in range(4))
        except CloisterError as error:
            results.append(error)

    def turn() -> None:
        try:
            rotate(trust)
        except TrustError as error:
            if "somebody else has just replaced" not in str(error):
                results.append(error)

    threads = [threading.Thread(target=work) for work in (ask, turn, ask, turn, ask, turn)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    roots = trusted_roots(trust.directory, NOW)
    assert len(results) == 12
    for signed in results:
        assert isinstance(signed, bytes)
        assert accepted(signed, roots, NOW)
    check(trust)


def test_labels_tell_roots_apart(tmp_path: Path) -> None:
    """A label stands before the root's name; documents verify all the same."""
    establish(
        tmp_path,
        replace(HOST, region="x"),
        lambda: make_root(InFile(), region="x", now=NOW, label="lab"),
        NOW,
    )
    trust = open_trust(tmp_path)
    assert "CN=lab.local.cloister-enclaves" in trust.root_certificate.subject.rfc4514_string()
    check(trust)
    with pytest.raises(CloisterError, match="label 'Not one'"):
        make_root(InFile(), region="x", now=NOW, label="Not one")


def test_a_span_beyond_the_root_s_end_is_refused(trust: Trust, tmp_path: Path) -> None:
    """Authorities are not issued past the root's own end."""
    with pytest.raises(TrustError, match="the root ends at"):
        take_offline(trust.directory, tmp_path / "away", datetime(2056, 11, 1, tzinfo=UTC), span=YEAR)
