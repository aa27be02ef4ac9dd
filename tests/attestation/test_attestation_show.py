"""``cloister attestation show`` and ``diff``: documents read without belief, however malformed."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cloister.attestation import sign
from cloister.cli.attestation.dissection import UndecodableError, dissect
from cloister.cli.attestation.show import _as_json, _lines
from cloister.cli.main import main
from cloister.cose import IndefiniteMap, decode_cbor, encode_cbor
from cloister.pcrs import PcrBank
from simulators.local_chain import MODULE_ID, NOW, local_chain

Capture = pytest.CaptureFixture[str]

CHAIN = local_chain()
CREDENTIALS = CHAIN.credentials(NOW)
PCRS = PcrBank({0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48, 4: b"\x14" * 48}).locked()
DOCUMENT = sign(CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=PCRS, nonce=b"\0" * 32, user_data=b"hi there")
ENVELOPE: list[Any] = decode_cbor(DOCUMENT)
FIELDS: dict[str, Any] = decode_cbor(ENVELOPE[2])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the option that names the local chain's root; the host has none of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "root.pem"
    path.write_bytes(CHAIN.root.certificate.public_bytes(Encoding.PEM))
    return ["--root", str(path)]


def altered(**fields: Any) -> bytes:
    """Return the document with some fields exchanged, so that its signature no longer holds."""
    return encode_cbor([*ENVELOPE[:2], encode_cbor(FIELDS | fields), ENVELOPE[3]])


def show(document: bytes, *words: str) -> int:
    """Run the command on a document that the command line holds."""
    return main(["attestation", "show", f"hex:{document.hex()}", *words])


def test_a_document_is_told_in_full(root: list[str], capsys: Capture) -> None:
    """Who made it when, its registers with their meanings, its fields as text, its chain as a tree."""
    at = (NOW + timedelta(minutes=5)).isoformat()
    assert show(DOCUMENT, *root, "--at", at) == 0
    text = capsys.readouterr().out
    assert text.startswith("NOT VERIFIED")
    for part in (
        "check       its chain and signature hold",
        f"document    {len(DOCUMENT)} bytes, COSE_Sign1 without tag, ES384, 9 fields in a map of indefinite",
        "instance i-0123456789abcdef0, enc0198bc503b57519e, started 2025-08-18 08:33:51.447 UTC",
        "time        2025-02-03 12:00:00.250 UTC, 5 min ago",
        f"PCR4        {'14' * 48}  the host's instance id",
        'user_data   6869207468657265 (8 bytes)  "hi there"',
        "public_key  none",
        "chain       local.cloister-enclaves\n",
        "+- i-0123456789abcdef0.eu-central-1.local.cloister-enclaves\n",
        "P-384, signed with ecdsa-with-SHA384; not a CA; digitalSignature, nonRepudiation",
        "5 min 3 s old, 2 h 55 min left",
    ):
        assert part in text
    assert show(b"\xd2" + sign(CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=PCRS, indefinite=False)) == 0
    text = capsys.readouterr().out
    assert "COSE_Sign1 tagged 18, ES384, 9 fields in a map of definite length" in text
    assert "check       none: there is no root to check it against" in text


def test_json_holds_all_of_it(root: list[str], capsys: Capture) -> None:
    """Programs get every part, and never the word verified."""
    assert show(DOCUMENT, *root, "--at", NOW.isoformat(), "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["Verified"] is False
    assert answer["Check"]["Passed"] is True
    assert answer["MapEncoding"] == "indefinite"
    assert answer["Module"]["Started"] == "2025-08-18T08:33:51.447000+00:00"
    assert (answer["UserDataText"], answer["PublicKey"], answer["Nonce"]) == ('"hi there"', None, "00" * 32)
    assert [len(answer[name]) for name in ("PCRs", "Chain", "Problems")] == [16, 5, 0]
    assert answer["Chain"][-1]["KeyUsage"] == ["digitalSignature", "nonRepudiation"]


FAULTY: dict[str, tuple[bytes, *tuple[str, ...]]] = {
    "signature": (altered(user_data=b"forged"), "FAILS at step", "(signature)", '"forged"'),
    "expired": (DOCUMENT, "(validity)", "at the document's own time: its chain and signature hold"),
    "expired, forged": (altered(user_data=b"x"), "(validity)", "own time: FAILS", "(signature)"),
    "foreign leaf": (altered(certificate=b"\0\1"), "cannot be read: ", "(2 bytes)"),
    "no bundle": (altered(cabundle=None), "problem     cabundle is not an array", "chain       i-0123"),
    "short register": (altered(pcrs={0: b"a"}), "problem     PCR0 has 1 bytes, not 48", "PCR0        61"),
    "strange registers": (altered(pcrs={"a": 1}), "problem     pcrs holds 'a', which is no PCR"),
    "two banks": (altered(nitrotpm_pcrs={}), "problem     there are 2 banks of PCRs"),
    "early": (altered(timestamp=-1), "problem     the timestamp, -1, is not a time"),
    "number for a name": (altered(module_id=5), "problem     module_id is not a text"),
    "number for a field": (altered(nonce=5), "problem     nonce is neither null nor a byte string"),
    "other digest": (altered(digest="MD5"), "problem     the digest is 'MD5', not SHA384"),
    "further field": (altered(more=1), "problem     no attestation document has a field 'more'"),
    "a terminal's orders": (altered(module_id="\x1b[2J", user_data=b"\x1b[2J"), r"module      \x1b[2J"),
    "debug": (altered(pcrs={0: bytes(48)}), "WARNING     debug mode"),
    "in the future": (altered(timestamp=1 << 42), "in the FUTURE"),
    "NitroTPM": (
        encode_cbor(
            [*ENVELOPE[:2], encode_cbor({k: v for k, v in FIELDS.items() if k != "pcrs"} | {
                "nitrotpm_pcrs": {7: b"\7" * 48}}), b""]
        ),
        f"PCR7        {'07' * 48}  Secure Boot policy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTY)
def test_faulty_documents_are_shown_all_the_same(case: str, root: list[str], capsys: Capture) -> None:
    """Exit 0, the fault in words, and whatever else could be read."""
    document, *parts = FAULTY[case]
    at = ["--at", NOW.isoformat()] if not case.startswith("expired") else ["--at", "2030-01-01"]
    assert show(document, *root, *at) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    for part in parts:
        assert part in text
    assert "NOT VERIFIED" in text


NOTHING = {
    "empty": (b"\xa0", "this is no attestation document: a COSE_Sign1 is an array"),
    "cut short": (DOCUMENT[:100], "goes beyond the end of the data"),
    "trailing": (DOCUMENT + b"\0", "1 byte follows the CBOR value"),
    "payload is no CBOR": (encode_cbor([b"", {}, b"\xff", b""]), "the payload, 1 bytes, cannot be read"),
    "payload is no map": (encode_cbor([b"", {}, b"\x01", b""]), "the payload, 1 bytes, is not a CBOR map"),
}


@pytest.mark.parametrize(("document", "reason"), NOTHING.values(), ids=NOTHING)
def test_what_is_no_document_is_one_sentence(document: bytes, reason: str, capsys: Capture) -> None:
    """Exit 1 and nothing on standard output."""
    assert show(document) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert reason in err


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=60) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-9, 40) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from([*FIELDS, "nitrotpm_pcrs", "further", 7])


@given(
    fields=st.dictionaries(NAMES, VALUES, max_size=12),
    kept=st.sets(st.sampled_from(sorted(FIELDS))),
    header=st.binary(max_size=8),
    indefinite=st.booleans(),
)
def test_any_fields_can_be_shown(
    fields: dict[Any, Any], kept: set[str], header: bytes, indefinite: bool
) -> None:
    """Whatever a map holds, it is shown in lines that no terminal obeys, and as JSON."""
    whole = {name: FIELDS[name] for name in kept} | fields
    payload = encode_cbor(IndefiniteMap(whole) if indefinite else whole)
    dissection = dissect(encode_cbor([header, {}, payload, b""]))
    assert all(line.isprintable() for line in _lines(dissection, NOW))
    assert json.dumps(_as_json(dissection, {}, NOW))


@given(place=st.integers(0, len(DOCUMENT) - 1), bits=st.integers(1, 255))
def test_any_bent_document_is_shown_or_refused(place: int, bits: int) -> None:
    """Every changed byte leaves a document that can be shown, or one sentence."""
    bent = bytearray(DOCUMENT)
    bent[place] ^= bits
    try:
        dissection = dissect(bytes(bent))
    except UndecodableError:
        return
    assert all(line.isprintable() for line in _lines(dissection, NOW))
    assert json.dumps(_as_json(dissection, {}, NOW))


def diff(capsys: Capture, first: bytes, second: bytes, *words: str, code: int) -> str:
    """Compare two documents and return what is printed."""
    assert main(["attestation", "diff", f"hex:{first.hex()}", f"hex:{second.hex()}", *words]) == code
    return capsys.readouterr().out


def test_equal_content_is_exit_0(capsys: Capture) -> None:
    """The tag, the encoding of the map and the signature's own dice are form, not content."""
    again = sign(
        CREDENTIALS,
        module_id=MODULE_ID,
        now=NOW,
        pcrs=PCRS,
        nonce=b"\0" * 32,
        user_data=b"hi there",
        indefinite=False,
    )
    assert again != DOCUMENT
    assert diff(capsys, DOCUMENT, DOCUMENT, code=0) == ""
    assert diff(capsys, DOCUMENT, b"\xd2" + again, code=0) == ""


def test_differences_are_named(capsys: Capture) -> None:
    """Registers with their meaning, the module, fields, the certificate, the time; --only narrows it."""
    other = sign(
        CHAIN.credentials(NOW),
        module_id=f"{MODULE_ID[:-1]}f",
        now=NOW + timedelta(hours=1),
        pcrs=PCRS | {2: b"\2" * 48},
    )
    text = diff(capsys, DOCUMENT, other, code=1)
    for part in (
        f"PCR2  (application)\n< {'12' * 48}\n> {'02' * 48}\n",
        f"module  (two enclaves of one host)\n< {MODULE_ID}\n",
        "user_data\n< 6869207468657265\n> none\n",
        "signer  (the same name, another certificate)\n< i-0123",
        "time  (1 h later)\n< 2025-02-03 12:00:00.250 UTC\n> 2025-02-03 13:00:00.250 UTC\n",
    ):
        assert part in text
    assert "PCR0" not in text
    assert "root" not in text
    only = json.loads(diff(capsys, DOCUMENT, other, "--only", "pcrs", "--json", code=1))
    assert [(one["Section"], one["What"]) for one in only] == [("pcrs", "PCR2")]
    assert diff(capsys, DOCUMENT, altered(nonce=b"\0"), "--only", "pcrs", code=0) == ""


@pytest.mark.parametrize("fields", [{"nonce": 5}, {"pcrs": FIELDS["pcrs"] | {40: 1}}, {"digest": 1}, {5: 1}])
def test_unreadable_differences_count(fields: dict[Any, Any], capsys: Capture) -> None:
    """A field that cannot be read is not passed over."""
    other = encode_cbor([*ENVELOPE[:2], encode_cbor(FIELDS | fields), ENVELOPE[3]])
    assert diff(capsys, DOCUMENT, other, code=1) != ""


def test_trouble_is_exit_2(tmp_path: Path, capsys: Capture) -> None:
    """As in diff(1): what cannot be read is neither equal nor different."""
    assert main(["attestation", "diff", str(tmp_path / "absent"), f"hex:{DOCUMENT.hex()}"]) == 2
    assert main(["attestation", "diff", "-", "-"]) == 2
    assert main(["attestation", "diff", "hex:00", f"hex:{DOCUMENT.hex()}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 3
    assert "standard input holds one document, not two" in err
