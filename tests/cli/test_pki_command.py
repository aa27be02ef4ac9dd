"""``cloister pki`` and ``cloister host``: what they say, how they end, what they refuse."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from cloister.cli import passphrase
from cloister.cli.main import main
from cloister.places import Places
from cloister.trust import fingerprint, open_trust
from simulators.enclave_records import Cloister

ROLE = "arn:aws:iam::123456789012:role/web"


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no passphrase of the person who runs the tests."""
    monkeypatch.delenv(passphrase.VARIABLE, raising=False)


@pytest.fixture
def made(cloister: Cloister) -> Cloister:
    """Return the command on a host that has a root."""
    assert cloister("pki", "init", "--region", "eu-west-1")[0] == 0
    return cloister


def overview(cloister: Cloister) -> dict[str, object]:
    """Return what show --json says."""
    code, out, _ = cloister("pki", "show", "--json")
    assert code == 0
    found: dict[str, object] = json.loads(out)
    return found


def test_init_can_be_repeated(cloister: Cloister, host: Places) -> None:
    """The first makes a root with a random identity, the second keeps it, and both say which it is."""
    code, out, _ = cloister("pki", "init", "--role-arn", ROLE)
    assert code == 0
    assert out.startswith("made: i-")
    root = fingerprint(open_trust(host.pki).root_certificate)
    assert root in out
    code, out, _ = cloister("pki", "init", "--key", "file")
    assert (code, root in out, out.startswith("there already")) == (0, True, True)
    assert open_trust(host.pki).role_arn == ROLE


@pytest.mark.parametrize(
    "words", [("--key", "pkcs11:token=a;object=b?module-path=/x"), ("--offline", "away")]
)
def test_init_says_how_to_replace_a_root(made: Cloister, words: tuple[str, str]) -> None:
    """Another place for the key is no reason to make another root; the ways to get there are named."""
    before = overview(made)
    code, _, err = made("pki", "init", *words)
    assert code == 1
    assert "has a root already" in err
    assert "cloister pki rotate --" in err
    assert "take-offline" in err
    assert overview(made) == before


def test_show_is_a_tree_and_json(made: Cloister, host: Places) -> None:
    """People see names indented by depth, the key's place and renewals; machines the same in JSON."""
    code, out, _ = made("pki", "show")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["authority", "from", "(UTC)", "until", "next", "one"]
    assert [len(line) - len(line.lstrip()) for line in lines[1:5]] == [0, 2, 4, 6]
    assert "root key       on this host, in root.key" in out
    found = overview(made)
    assert found["RootKey"] == "file"
    assert found["Region"] == "eu-west-1"
    chain = found["Chain"]
    assert isinstance(chain, list)
    assert [link["Level"] for link in chain] == ["root", "regional", "zonal", "instance"]
    assert found["RootFingerprint"] == fingerprint(open_trust(host.pki).root_certificate)


def test_the_root_is_exported(made: Cloister, tmp_path: Path, host: Places) -> None:
    """PEM goes to standard output or a file, the fingerprint alone if asked; nothing of it is secret."""
    root = open_trust(host.pki).root_certificate
    code, out, _ = made("pki", "export-root")
    assert (code, x509.load_pem_x509_certificate(out.encode())) == (0, root)
    assert made("pki", "export-root", str(tmp_path / "root.pem"))[:2] == (0, "")
    assert (tmp_path / "root.pem").read_text() == out
    assert made("pki", "export-root", "--fingerprint")[1] == f"{fingerprint(root)}\n"
    assert made("pki", "rotate")[0] == 0
    both = made("pki", "export-root", "--all")[1]
    assert x509.load_pem_x509_certificates(both.encode())[1] == root
    assert "PRIVATE" not in both
    code, _, err = made("pki", "export-root", str(tmp_path / "no/root.pem"))
    assert (code, "cannot be written" in err) == (1, True)


def test_the_root_key_leaves_and_comes_back(
    made: Cloister, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Away under a passphrase from the environment, used from its file, and back with one from a file."""
    away, word = tmp_path / "root.key", tmp_path / "word"
    word.write_text("correct horse\n")
    code, _, err = made("pki", "take-offline", str(away))
    assert code == 1
    assert "no terminal to ask at: set CLOISTER_PASSPHRASE, name --passphrase-file, or say --no-pass" in err
    monkeypatch.setenv(passphrase.VARIABLE, "correct horse")
    code, out, _ = made("pki", "take-offline", str(away), "--for", "90d")
    assert code == 0
    assert f"{datetime.now(UTC) + timedelta(days=98):%Y-%m}" in out
    assert overview(made)["RootKey"] == "offline"
    monkeypatch.delenv(passphrase.VARIABLE)
    code, _, err = made("pki", "rotate", "--level", "regional")
    assert (code, "--root-key" in err) == (1, True)
    words = ("--root-key", str(away), "--passphrase-file", str(word))
    assert made("pki", "rotate", "--level", "regional", "--for", "200d", *words)[0] == 0
    assert overview(made)["RegionalAuthorities"] == 15
    assert made("pki", "rotate")[0] == 1
    (tmp_path / "wrong").write_text("wrong")
    code, _, err = made("pki", "import", str(away), "--passphrase-file", str(tmp_path / "wrong"))
    assert (code, "the passphrase is wrong" in err) == (1, True)
    assert made("pki", "import", str(away), "--passphrase-file", str(word))[0] == 0
    assert overview(made)["RootKey"] == "file"


def test_another_host_issues_under_this_root(
    made: Cloister, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle made here is taken in there, and both hosts show one root."""
    bundle = tmp_path / "b.bundle"
    assert made("pki", "delegate", "--out", str(bundle), "--for", "30d", "--no-passphrase")[0] == 0
    assert bundle.stat().st_mode & 0o777 == 0o600
    code, _, err = made("pki", "delegate", "--out", str(bundle), "--no-passphrase")
    assert (code, "is there already" in err) == (1, True)
    here = overview(made)["RootFingerprint"]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    code, out, _ = made("pki", "import", str(bundle))
    assert (code, "3 regional authorities" in out) == (0, True)
    there = overview(made)
    assert (there["RootFingerprint"], there["RootKey"], there["Region"]) == (here, "offline", "eu-west-1")
    assert made("pki", "import", str(tmp_path / "nothing"))[0] == 1


def test_an_offline_root_is_made_elsewhere(made: Cloister, tmp_path: Path) -> None:
    """Rotation to an offline root leaves no root key on the host, and warns when its time is near."""
    code, out, _ = made("pki", "rotate", "--offline", str(tmp_path), "--no-passphrase", "--for", "10d")
    assert (code, f"its key is in {tmp_path / 'cloister-root.key'}\n" in out) == (0, True)
    found = overview(made)
    assert (found["RootKey"], found["RegionalAuthorities"]) == ("offline", 1)
    assert b"PRIVATE KEY" in (tmp_path / "cloister-root.key").read_bytes()
    assert "WARNING        bring the root's key" in made("pki", "show")[1]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("pki",), 2),
        (("pki", "init", "--key", "file", "--offline", "x"), 2),
        (("pki", "take-offline", "x", "--for", "1y"), 2),
        (("pki", "take-offline", "x", "--for", "0d"), 2),
        (("pki", "rotate", "--level", "leaf"), 2),
        (("pki", "rotate", "--level", "zonal", "--distrust-old"), 2),
        (("pki", "init", "--key", "cloud"), 1),
        (("pki", "rotate", "--level", "zonal", "--label", "x"), 2),
        (("pki", "rotate", "--level", "zonal", "--for", "365d"), 2),
        (("pki", "rotate", "--level", "regional", "--no-passphrase"), 2),
        (("pki", "init", "--label", ""), 2),
        (("host", "set"), 2),
        (("host", "set", "--instance-id", "laptop"), 2),
        (("host", "set", "--role-arn", "web"), 2),
        (("host", "set", "--region", "EU"), 2),
        (("host", "set", "--role-arn", ROLE, "--no-role"), 2),
        (("host", "set", "--document-map", "both"), 2),
    ],
)
def test_wrong_words_change_nothing(made: Cloister, words: tuple[str, ...], code: int) -> None:
    """Usage errors end with 2, refusals with 1 and one sentence; the host stays as it was."""
    before = overview(made)
    ended, out, err = made(*words)
    assert (ended, out) == (code, "")
    assert "Traceback" not in err
    assert overview(made) == before


@pytest.mark.parametrize("verb", ["show", "export-root", "rotate", "take-offline"])
def test_a_host_without_root_is_told_what_to_do(cloister: Cloister, verb: str) -> None:
    """Every verb but init and import needs a root."""
    code, _, err = cloister("pki", verb)
    assert (code, "run 'cloister setup'" in err) == (1, True)


def test_the_host_s_identity_changes(made: Cloister, host: Places) -> None:
    """Set changes one part and leaves the others; a role can be given up; show says which PCR is meant."""
    assert "PCR3" in made("host", "show")[1]
    code, out, _ = made("host", "set", "--role-arn", ROLE, "--document-map", "definite")
    assert (code, "running ones keep theirs" in out) == (0, True)
    assert made("host", "set", "--instance-id", "i-0fedcba9876543210", "--region", "eu-north-1")[0] == 0
    found = json.loads(made("host", "show", "--json")[1])
    assert found == {
        "Region": "eu-north-1",
        "InstanceId": "i-0fedcba9876543210",
        "RoleArn": ROLE,
        "DocumentMap": "definite",
    }
    assert json.loads(made("host", "set", "--no-role", "--json")[1])["RoleArn"] is None
    assert open_trust(host.pki).role_arn is None


@pytest.mark.parametrize(
    "verb", ["init", "show", "export-root", "rotate", "take-offline", "import", "delegate"]
)
def test_help_teaches(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb has an example and its exit statuses; the room's help shows the way through."""
    with pytest.raises(SystemExit) as ended:
        main(["pki", verb, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "usage: cloister pki" in text
    assert f"\n  cloister pki {verb}" in text
    assert "Exit status: 0 done; 1 refused" in text
    with pytest.raises(SystemExit):
        main(["pki", "--help"])
    assert f"cloister pki {verb}" in capsys.readouterr().out


def test_a_rotation_that_replaces_nothing_says_so(made: Cloister, tmp_path: Path) -> None:
    """Where the file of the offline key holds this host's own root, nobody is told that it was replaced."""
    assert made("pki", "take-offline", "--no-passphrase", str(tmp_path))[0] == 0
    before = overview(made)["RootFingerprint"]
    code, out, err = made("pki", "rotate", "--offline", str(tmp_path), "--no-passphrase", "--distrust-old")
    assert (code, out) == (1, "")
    assert "holds the root that this host has already" in err
    assert "nothing is replaced" in err
    assert overview(made)["RootFingerprint"] == before


def test_a_rotation_says_which_roots_are_refused(made: Cloister) -> None:
    """A plain one names the root that is accepted for a day, --distrust-old every one that no longer is."""
    first = overview(made)["RootFingerprint"]
    assert f"still accepted, for 1 day at most: {first}" in made("pki", "rotate")[1]
    second = overview(made)["RootFingerprint"]
    out = made("pki", "rotate", "--distrust-old")[1]
    for root in (first, second):
        assert f"refused from now on: {root}" in out
    assert "still accepted" not in out
    assert made("pki", "export-root", "--all")[1].count("BEGIN") == 1


@pytest.mark.parametrize(
    "words",
    [("take-offline", "--no-passphrase"), ("export-root",), ("rotate", "--no-passphrase", "--offline")],
    ids=lambda words: words[0],
)
def test_no_command_writes_over_the_root_of_trust(
    made: Cloister, host: Places, words: tuple[str, ...]
) -> None:
    """A file among the root of trust's own is no place for a copy of a part of it."""
    before = {path.name: path.read_bytes() for path in host.pki.iterdir()}
    code, _, err = made("pki", *words, str(host.pki / "root.key"))
    assert code == 1
    assert "among the root of trust's own files" in err
    assert {path.name: path.read_bytes() for path in host.pki.iterdir()} == before


def test_distrust_reaches_every_older_root(made: Cloister) -> None:
    """After two rotations, the second with --distrust-old, the newest root alone is accepted."""
    assert made("pki", "rotate")[0] == 0
    assert made("pki", "rotate", "--distrust-old")[0] == 0
    _, out, _ = made("pki", "export-root", "--all", "--fingerprint")
    assert len(out.split()) == 1


def test_import_ignores_no_wish(made: Cloister, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A region that the bundle is not for, and an identity that this host has not, are refused."""
    bundle = tmp_path / "b.bundle"
    assert made("pki", "delegate", "--out", str(bundle), "--no-passphrase")[0] == 0
    before = overview(made)
    code, _, err = made("pki", "import", str(bundle), "--instance-id", "i-0fedcba9876543210")
    assert (code, "'cloister host set' changes it" in err) == (1, True)
    assert overview(made) == before
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    code, _, err = made("pki", "import", str(bundle), "--region", "us-east-2")
    assert (code, "the bundle is for eu-west-1, not us-east-2" in err) == (1, True)
    assert made("pki", "import", str(bundle), "--region", "eu-west-1")[0] == 0


def test_export_writes_over_nothing_else(made: Cloister, tmp_path: Path) -> None:
    """The same root again is no change; a file with something else in it stays."""
    path = tmp_path / "root.pem"
    assert made("pki", "export-root", str(path))[0] == 0
    assert made("pki", "export-root", str(path))[0] == 0
    path.write_text("mine")
    code, _, err = made("pki", "export-root", str(path))
    assert (code, "is there already" in err, path.read_text()) == (1, True, "mine")


def test_show_tells_of_authorities_to_come(made: Cloister, host: Places) -> None:
    """A level that is not issued yet has a line that says when it will be, or what that needs."""
    (host.pki / "instance.pem").unlink()
    assert re.search(r"^      instance +issued at next use$", made("pki", "show")[1], re.MULTILINE)
    for name in ("regional.pem", "root.key"):
        (host.pki / name).unlink()
    assert re.search(r"^  regional +needs the root's key$", made("pki", "show")[1], re.MULTILINE)


@pytest.mark.parametrize(
    "words",
    [
        ("take-offline", "", "--no-passphrase"),
        ("import", ""),
        ("export-root", ""),
        ("delegate", "--out", "", "--no-passphrase"),
        ("rotate", "--offline", "", "--no-passphrase"),
        ("rotate", "--level", "regional", "--root-key", ""),
        ("take-offline", "x", "--passphrase-file", ""),
    ],
    ids=" ".join,
)
def test_an_empty_path_names_nothing(made: Cloister, words: tuple[str, ...]) -> None:
    """An unset variable in a file's place is a mistake of usage, and changes nothing."""
    before = overview(made)
    assert made("pki", *words)[0] == 2
    assert overview(made) == before


def test_the_root_key_does_not_go_into_the_state_directory(made: Cloister, host: Places) -> None:
    """The state directory is this host, not a place away from it."""
    code, _, err = made("pki", "take-offline", str(host.pki.parent), "--no-passphrase")
    assert code == 1
    assert "name a place elsewhere" in err


def test_another_root_s_key_delegates_nothing_here(made: Cloister, tmp_path: Path) -> None:
    """A bundle under another root than this host's is refused, and not written."""
    other, bundle = tmp_path / "other.key", tmp_path / "b.bundle"
    assert made("pki", "take-offline", str(other), "--no-passphrase")[0] == 0
    assert made("pki", "rotate", "--key", "file")[0] == 0
    code, _, err = made("pki", "delegate", "--out", str(bundle), "--root-key", str(other), "--no-passphrase")
    assert code == 1
    assert "another root's" in err
    assert not bundle.exists()


def test_passphrases_are_long_enough_and_not_ignored(made: Cloister, tmp_path: Path) -> None:
    """A short passphrase is refused, and so is one given beside --no-passphrase."""
    secret, key = tmp_path / "secret", tmp_path / "root.key"
    secret.write_text("abc\n")
    words = ("pki", "take-offline", str(key), "--passphrase-file", str(secret))
    assert "shorter than 8" in made(*words)[2]
    assert "exclude each other" in made(*words, "--no-passphrase")[2]
    assert not key.exists()


def test_a_carrying_away_that_fails_changes_nothing(made: Cloister, tmp_path: Path) -> None:
    """Where the key's file cannot be written, the authorities are those of before."""
    before = overview(made)
    assert made("pki", "take-offline", str(tmp_path / "none" / "root.key"), "--no-passphrase")[0] == 1
    assert overview(made) == before


@pytest.mark.parametrize("verb", ["show", "set"])
def test_help_of_the_host_teaches(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb has an example and its exit statuses."""
    with pytest.raises(SystemExit):
        main(["host", verb, "--help"])
    text = capsys.readouterr().out
    assert f"\n  cloister host {verb}" in text
    assert "Exit status: 0 done; 1 refused" in text
