"""What lies on disk: root key, database, credentials, ciphertexts."""

import configparser
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.aws import Fault
from cloister.kms import KmsMissingError, KmsStateError, initialise_kms, open_store
from cloister.kms.ciphertext import Ciphertext, encrypt
from cloister.kms.decisions import MEMBERS, DecisionLog, DecisionLogError, explain, read_decisions
from cloister.kms.keys import Key, KeyState, Material, key_arn
from cloister.kms.policies import default_policy
from cloister.kms.storage.rootkey import RootKey, RootKeyError
from cloister.kms.storage.store import Alias, AliasTakenError, StoreError

MATERIAL = Material(0, "m", bytes(range(32)))


def snapshot(directory: Path) -> dict[str, bytes]:
    return {
        str(p): p.read_bytes()
        for p in sorted(directory.rglob("*"))
        if p.is_file() and "sqlite3-" not in p.name
    }


def test_initialise_makes_everything(tmp_path: Path) -> None:
    """One account with an administrator and an enclave role, secrets in files for the owner alone."""
    account = initialise_kms(tmp_path / "kms", account="123456789012", region="eu-central-1")
    assert (account.account, account.region) == ("123456789012", "eu-central-1")
    store = open_store(tmp_path / "kms")
    for path, arn in (
        (account.administrator, "arn:aws:iam::123456789012:user/administrator"),
        (account.enclave, "arn:aws:sts::123456789012:assumed-role/enclave/cloister"),
    ):
        parser = configparser.ConfigParser()
        parser.read(path)
        credential = store.credential(parser["default"]["aws_access_key_id"])
        assert credential is not None
        assert credential.secret == parser["default"]["aws_secret_access_key"]
        assert credential.caller.arn == arn
    store.close()
    for path in (tmp_path / "kms").rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    assert stat.S_IMODE((tmp_path / "kms").stat().st_mode) == 0o700


def test_initialise_is_idempotent(tmp_path: Path) -> None:
    """A second run changes nothing; a lost credentials file comes back the same."""
    account = initialise_kms(tmp_path / "kms")
    before = snapshot(tmp_path)
    account.enclave.unlink()
    assert initialise_kms(tmp_path / "kms") == account
    assert snapshot(tmp_path) == before


def test_initialise_leaves_nothing_half_done(tmp_path: Path) -> None:
    """What is in the way is refused, and no scratch directory stays."""
    (tmp_path / "kms").mkdir()
    (tmp_path / "kms/notes").write_text("mine")
    with pytest.raises(KmsStateError, match="holds files but no KMS root key"):
        initialise_kms(tmp_path / "kms")
    assert [p.name for p in tmp_path.iterdir()] == ["kms"]
    with pytest.raises(KmsStateError, match="12 digits"):
        initialise_kms(tmp_path / "other", account="1")
    with pytest.raises(KmsMissingError, match="run 'cloister setup'"):
        open_store(tmp_path / "other")


def test_initialise_clears_after_a_killed_attempt(tmp_path: Path) -> None:
    """The scratch directory of an attempt that was killed goes with the next."""
    (tmp_path / ".kms-abandoned").mkdir()
    (tmp_path / ".kms-abandoned/root.key").write_bytes(bytes(32))
    initialise_kms(tmp_path / "kms")
    assert [p.name for p in tmp_path.iterdir()] == ["kms"]


def test_secrets_are_encrypted_at_rest(tmp_path: Path) -> None:
    """No secret access key is in the database file in the clear."""
    account = initialise_kms(tmp_path / "kms")
    parser = configparser.ConfigParser()
    parser.read(account.administrator)
    secret = parser["default"]["aws_secret_access_key"].encode()
    for path in (tmp_path / "kms").glob("kms.sqlite3*"):
        assert secret not in path.read_bytes()


def test_another_root_key_opens_nothing(tmp_path: Path) -> None:
    """A database beside the wrong root key says so."""
    account = initialise_kms(tmp_path / "kms")
    parser = configparser.ConfigParser()
    parser.read(account.administrator)
    (tmp_path / "kms/root.key").unlink()
    RootKey.create(tmp_path / "kms/root.key")
    store = open_store(tmp_path / "kms")
    with pytest.raises(RootKeyError, match="does not open with this KMS root key"):
        store.credential(parser["default"]["aws_access_key_id"])
    store.close()


def test_exposed_or_broken_root_keys_are_refused(tmp_path: Path) -> None:
    """A root key that others may read, or of another size, is not used."""
    path = tmp_path / "root.key"
    RootKey.create(path)
    path.chmod(0o640)
    with pytest.raises(RootKeyError, match="mode 0640; 0600 is expected"):
        RootKey.read(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(RootKeyError, match="5 bytes, not 32"):
        RootKey.read(path)
    with pytest.raises(RootKeyError, match="cannot be read"):
        RootKey.read(tmp_path / "none")


def test_sealed_values_cannot_change_places() -> None:
    """A row's secret does not open in another row, nor altered."""
    root = RootKey(bytes(32))
    sealed = root.seal(b"secret", "key a")
    assert root.open(sealed, "key a") == b"secret"
    for blob, owner in (
        (sealed, "key b"),
        (sealed[:-1], "key a"),
        (b"", "key a"),
        (b"\x02" + sealed[1:], "key a"),
    ):
        with pytest.raises(RootKeyError):
            root.open(blob, owner)


def test_another_writer_is_noticed_at_once(tmp_path: Path) -> None:
    """What another process writes counts for the very next read, cached or not."""
    initialise_kms(tmp_path / "kms")
    reader, writer = open_store(tmp_path / "kms"), open_store(tmp_path / "kms")
    created = datetime(2026, 11, 23, tzinfo=UTC)
    key = new_key("11111111-2222-3333-4444-555555555555", created)
    writer.add_key(key)
    assert reader.key(key.key_id) == key
    assert reader.key(key.key_id) is reader.key(key.key_id)
    for store in (writer, reader):
        store.set_state(key.key_id, KeyState.DISABLED)
        for other in (reader, writer):
            found = other.key(key.key_id)
            assert found is not None
            assert found.state is KeyState.DISABLED
        store.set_state(key.key_id, KeyState.ENABLED)
    reader.add_alias(Alias("alias/a", key.key_id, created))
    found = writer.key(key.key_id)
    assert found is not None
    assert found.aliases == ("alias/a",)
    with pytest.raises(AliasTakenError):
        writer.add_alias(Alias("alias/a", key.key_id, created))
    reader.close()
    writer.close()


def new_key(key_id: str, created: datetime) -> Key:
    return Key(
        key_id=key_id,
        arn=key_arn("us-east-1", "000000000000", key_id),
        account="000000000000",
        region="us-east-1",
        spec="SYMMETRIC_DEFAULT",
        usage="ENCRYPT_DECRYPT",
        origin="AWS_KMS",
        description="",
        state=KeyState.ENABLED,
        created=created,
        deletion=None,
        policy=default_policy("000000000000"),
        materials={0: MATERIAL},
        tags={"a": "b"},
        aliases=(),
    )


def test_newer_schemas_are_refused(tmp_path: Path) -> None:
    """A database of another schema version is not touched."""
    initialise_kms(tmp_path / "kms")
    with sqlite3.connect(tmp_path / "kms/kms.sqlite3") as connection:
        connection.execute("UPDATE settings SET value = '99' WHERE name = 'schema_version'")
    connection.close()
    with pytest.raises(StoreError, match="schema 99"):
        open_store(tmp_path / "kms")


@given(
    st.binary(min_size=1, max_size=64), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
)
def test_ciphertexts_open_again(plaintext: bytes, context: dict[str, str]) -> None:
    """What is encrypted decrypts under the same context, whatever the order of its pairs."""
    blob = encrypt("1234", MATERIAL, plaintext, context)
    assert blob[0] == 1
    parsed = Ciphertext.from_bytes(blob)
    assert (parsed.key_id, parsed.generation) == ("1234", 0)
    assert parsed.open(MATERIAL, dict(reversed(context.items()))) == plaintext


def test_every_altered_byte_is_noticed() -> None:
    """No byte of a blob can change, none can be cut off."""
    blob = encrypt("1234", MATERIAL, b"secret", {"a": "b"})
    for position in range(len(blob)):
        altered = bytearray(blob)
        altered[position] ^= 0x80
        with pytest.raises(Fault, match="InvalidCiphertextException"):
            Ciphertext.from_bytes(bytes(altered)).open(MATERIAL, {"a": "b"})
        with pytest.raises(Fault, match="InvalidCiphertextException"):
            Ciphertext.from_bytes(blob[:position]).open(MATERIAL, {"a": "b"})


def test_contexts_do_not_run_together() -> None:
    """Pairs that read the same in a row are different contexts."""
    blob = encrypt("1234", MATERIAL, b"secret", {"ab": "c"})
    with pytest.raises(Fault):
        Ciphertext.from_bytes(blob).open(MATERIAL, {"a": "bc"})


def test_explanations_cannot_command_terminals() -> None:
    """What a stranger sent is printed without its control characters."""
    record = {
        "time": "t",
        "outcome": "refused",
        "operation": "\x1b[2Jx",
        "accessKeyId": "\x07",
        "error": {"code": "c", "message": "a\nb"},
    }
    assert explain(record) == ["t  REFUSED  ?[2Jx  by access key ?", "    answered c: a?b"]


def test_decision_log_survives_a_torn_line(tmp_path: Path) -> None:
    """A line that a crash cut short, or that is none of ours, is passed over; the rest is read."""
    records = [dict.fromkeys(MEMBERS, name) for name in ("one", "two")]
    log = DecisionLog(tmp_path / "log")
    log.write(records[0])
    log.close()
    with (tmp_path / "log").open("ab") as file:
        file.write(b'{"a": 1}\n[]\n\xff\n{"torn": ')
    again = DecisionLog(tmp_path / "log")
    again.write(records[1])
    again.close()
    assert list(read_decisions(tmp_path / "log")) == records
    with pytest.raises(DecisionLogError, match="cannot be read"):
        list(read_decisions(tmp_path / "none"))
