"""A root of trust of which a part is damaged or missing: one story, and nothing replaced unasked."""

import json
import re
from pathlib import Path

import pytest

from cloister.places import Places
from cloister.setup import Wishes, examine, setup_steps
from cloister.trust import TrustDamagedError
from simulators.enclave_records import Cloister

ROLE = "arn:aws:iam::123456789012:role/web"


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


def test_a_damaged_identity_is_not_replaced_unasked(made: Cloister, host: Places) -> None:
    """Every verb says that host.json is damaged, none that there is no root, and none makes another."""
    (host.pki / "host.json").write_text("{}")
    for words in (("show",), ("init",), ("rotate",), ("export-root",)):
        code, _, err = made("pki", *words)
        assert code == 1
        assert "host.json, this host's identity, is damaged" in err
    assert (host.pki / "host.json").read_text() == "{}"


STORIES = [
    ("host.json", None, "host.json, this host's identity, is missing: restore it"),
    ("host.json", b"{}", "host.json, this host's identity, is damaged: restore it"),
    ("root.pem", None, "root.pem, this host's root, is missing: 'cloister pki init' makes it again"),
    ("root.pem", b"garbage", "root.pem, this host's root, is damaged: 'cloister pki init' makes it again"),
    ("root.key", b"garbage", "root.key, the root's key, is damaged: restore it"),
]


@pytest.mark.parametrize(("name", "content", "story"), STORIES)
def test_damage_has_one_story(
    made: Cloister, host: Places, name: str, content: bytes | None, story: str
) -> None:
    """Whatever is asked, setup's step too, the same sentence names the file, and nothing is replaced."""
    path = host.pki / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    before = {path.name: path.read_bytes() for path in host.pki.iterdir()}
    verbs = [("show",), ("rotate",), ("rotate", "--level", "regional"), ("take-offline", "x")]
    verbs += [("init",)] if name != "root.pem" else []
    for words in verbs:
        code, _, err = made("pki", *words)
        assert (code, story in err) == (1, True), err
    (step,) = [step for step in setup_steps(host, Wishes()) if step.title == "local root of trust"]
    with pytest.raises(TrustDamagedError, match=re.escape(story)):
        step.run(lambda _share, _what: None)
    finding = next(finding for finding in examine(host) if finding.check == "root of trust")
    assert (finding.ok, story in f"{finding.found}: {finding.fix}") == (False, True)
    assert {path.name: path.read_bytes() for path in host.pki.iterdir()} == before


def test_init_mends_what_it_can_and_says_so(made: Cloister, host: Places) -> None:
    """A lost root's certificate comes from its key; a lost identity is given again by its owner."""
    before = overview(made)
    (host.pki / "root.pem").write_bytes(b"garbage")
    code, out, _ = made("pki", "init")
    assert (code, "mended, for" in out, "root.pem" in out) == (0, True, True)
    assert overview(made) == before
    (host.pki / "host.json").unlink()
    who = (str(before["InstanceId"]), str(before["Region"]))
    assert f"instance.pem was issued to {who[0]}.{who[1]}" in made("pki", "show")[2]
    code, out, _ = made("pki", "init", "--instance-id", who[0], "--region", who[1])
    assert (code, "mended, for" in out, "host.json" in out) == (0, True, True)
    assert overview(made) == before


def test_a_lost_root_comes_back_with_its_key(made: Cloister, host: Places, tmp_path: Path) -> None:
    """Where the key is elsewhere neither init nor setup makes another root; import --replace mends."""
    assert made("pki", "take-offline", str(tmp_path), "--no-passphrase")[0] == 0
    before = overview(made)["RootFingerprint"]
    for content in (b"garbage", None):
        if content is None:
            (host.pki / "root.pem").unlink()
        else:
            (host.pki / "root.pem").write_bytes(content)
        for words in (("init",), ("show",), ("import", str(tmp_path))):
            code, _, err = made("pki", *words)
            assert (code, "'cloister pki import --replace'" in err) == (1, True), err
        code, _, err = made("pki", "import", str(tmp_path), "--replace")
        assert (code, err) == (0, "")
        assert overview(made)["RootFingerprint"] == before
        (host.pki / "root.key").unlink()


def test_a_bundle_does_not_bury_a_key(made: Cloister, host: Places, tmp_path: Path) -> None:
    """A root whose certificate is damaged and whose key is here is mended first, then replaced."""
    bundle = tmp_path / "b.bundle"
    assert made("pki", "delegate", "--out", str(bundle), "--no-passphrase")[0] == 0
    assert made("pki", "rotate")[0] == 0
    (host.pki / "root.pem").write_bytes(b"garbage")
    before = {path.name: path.read_bytes() for path in host.pki.iterdir()}
    code, _, err = made("pki", "import", str(bundle), "--replace")
    assert (code, "'cloister pki init' makes it again" in err) == (1, True)
    assert {path.name: path.read_bytes() for path in host.pki.iterdir()} == before


@pytest.mark.parametrize(
    "words",
    [
        ("--region", "us-east-2"),
        ("--label", "lab"),
        ("--instance-id", "i-0fedcba9876543210"),
        ("--instance-id", "i-0fedcba9876543210", "--region", "us-east-2"),
        ("--role-arn", ROLE),
    ],
    ids=" ".join,
)
def test_init_ignores_no_wish(made: Cloister, words: tuple[str, ...]) -> None:
    """What an existing root and identity are not is refused, and the way to change them is named."""
    before = overview(made)
    code, _, err = made("pki", "init", *words)
    assert (code, "'cloister host set'" in err or "rotate --label" in err) == (1, True)
    assert overview(made) == before
