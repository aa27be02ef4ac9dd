"""``cloister attestation verify`` as a person meets it: outputs, exit codes, one clear sentence."""

import io
import json
from base64 import b64encode, urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.attestation import sign
from cloister.cli.main import main
from cloister.pcrs import PcrBank
from cloister.trust import initialise
from simulators.local_chain import MODULE_ID, NOW, REGION, local_chain

CHAIN = local_chain()
PCRS = PcrBank({0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48}).locked()
DOCUMENT = sign(CHAIN.credentials(NOW), module_id=MODULE_ID, now=NOW, pcrs=PCRS, nonce=b"nonce")
AT = ["--at", NOW.isoformat()]
PCR0 = ["--pcr", f"0={'10' * 48}"]


@pytest.fixture
def root(tmp_path: Path) -> list[str]:
    """Return the option that names the local chain's root."""
    path = tmp_path / "root.pem"
    path.write_bytes(CHAIN.root.certificate.public_bytes(Encoding.PEM))
    return ["--root", str(path)]


@pytest.fixture
def document(tmp_path: Path) -> str:
    """Return the name of a file that holds the document."""
    path = tmp_path / "document"
    path.write_bytes(DOCUMENT)
    return str(path)


def command(*words: str) -> int:
    """Run the command as ``main`` does, and return its exit code."""
    try:
        return main(["attestation", "verify", *words])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_a_good_document_is_summarised(
    document: str, root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0, and who signed what when, with what each register means."""
    assert command(document, *root, *PCR0, *AT, "--nonce", b"nonce".hex(), "--max-age", "60") == 0
    text = capsys.readouterr().out
    for part in (
        MODULE_ID,
        "2025-02-03 12:00:00.250 UTC, 0 ms ago",
        "compared    PCR0, nonce, age\n            NOT compared: user_data, public_key\n",
        f"PCR0        {'10' * 48}  the whole image",
        "zero        PCR 3, 4, 5",
        "signers     local.cloister-enclaves (until ",
        "nonce       6e6f6e6365 (5 bytes)",
    ):
        assert part in text


def test_json_is_for_machines(document: str, root: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With --json both outcomes are one JSON object."""
    assert command(document, *root, *PCR0, *AT, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["Verified"], answer["ModuleId"], answer["Nonce"]) == (True, MODULE_ID, b"nonce".hex())
    assert answer["PCRs"]["PCR2"] == "12" * 48
    assert len(answer["Signers"]) == 5
    assert command(document, *root, *PCR0, *AT, "--json", "--nonce", "00") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["Verified"], answer["Step"], answer["Name"]) == (False, 21, "nonce")


@pytest.mark.parametrize(
    "content",
    [
        DOCUMENT,
        DOCUMENT.hex().encode(),
        DOCUMENT.hex().upper().encode() + b"\n",
        b64encode(DOCUMENT),
        b64encode(DOCUMENT).rstrip(b"="),
        urlsafe_b64encode(DOCUMENT),
        b"\n".join(b64encode(DOCUMENT)[i : i + 76] for i in range(0, 8000, 76)),
    ],
    ids=["raw", "hex", "upper-case hex", "base64", "unpadded", "URL-safe", "wrapped"],
)
def test_documents_are_read_in_any_form(
    content: bytes, root: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file or standard input holds the document raw, in hex or in base64."""
    path = tmp_path / "form"
    path.write_bytes(content)
    assert command(str(path), *root, *PCR0, *AT) == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert command("-", *root, *PCR0, *AT) == 0


def test_genuine_documents(shared_vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A genuine document verifies under AWS's root at its own time, and the falsified one names its step."""
    root = ["--root", str(shared_vectors / "aws-nitro-root-g1.pem"), "--any-pcrs", "--at-document-time"]
    assert command(str(shared_vectors / "attestation/20251110_8e5652f3b009.cose"), *root) == 0
    assert "aws.nitro-enclaves" in capsys.readouterr().out
    assert command(str(shared_vectors / "attestation/20221109_7df2cdc016ae.cose"), *root) == 1
    assert "step 16 (signature)" in capsys.readouterr().err
    debug = str(shared_vectors / "attestation/20250818_050f82ac1d03.cose")
    assert command(debug, *root) == 1
    assert "step 19 (debug)" in capsys.readouterr().err
    assert command(debug, *root, "--allow-debug") == 0
    assert "WARNING" in capsys.readouterr().out


def test_the_local_root_is_the_default(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --root the host's own root is trusted, once there is one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert command(document, "--any-pcrs") == 2
    assert "cloister setup" in capsys.readouterr().err
    now = datetime.now(UTC)
    instance_id = MODULE_ID.partition("-enc")[0]
    trust = initialise(tmp_path / "cloister/pki", region="eu-central-1", instance_id=instance_id, now=now)
    own = tmp_path / "own"
    own.write_bytes(sign(trust.enclave_credentials(MODULE_ID, now), module_id=MODULE_ID, now=now, pcrs=PCRS))
    assert command(str(own), *PCR0) == 0
    assert command(document, *PCR0) == 1
    assert "step 8 (root)" in capsys.readouterr().err


REFUSED = {
    "wrong register": (["--pcr", f"0={'11' * 48}"], "step 20 (pcrs): PCR0 is 1010"),
    "register not shown": ([*PCR0, "--pcr", f"16={'00' * 48}"], "PCR16 is expected"),
    "wrong nonce": ([*PCR0, "--nonce", "00"], "step 21 (nonce)"),
    "wrong user data": ([*PCR0, "--user-data", "00"], "step 22 (user_data)"),
    "expired": (
        [*PCR0, "--at", "2025-02-04T00:00:00Z"],
        "step 13 (validity): the signing certificate expired",
    ),
    "now": (PCR0, "step 13 (validity)"),
    "old": ([*PCR0, "--at", "2025-02-03T13:00:00+00:00", "--max-age", "60"], "step 18 (age)"),
}


@pytest.mark.parametrize(("words", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_one_sentence(
    words: list[str], reason: str, document: str, root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, the numbered step and why, in one line, and nothing on standard output."""
    at = [] if "--at" in words or reason == "step 13 (validity)" else AT
    assert command(document, *root, *words, *at) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cloister: ")
    assert err.count("\n") == 1
    assert reason in err


USAGE = {
    "no expectation": [],
    "both expectations": [*PCR0, "--any-pcrs"],
    "short register": ["--pcr", "0=1010"],
    "bad hex": ["--pcr", f"0={'zz' * 48}"],
    "no number": ["--pcr", "10" * 48],
    "register 32": ["--pcr", f"32={'10' * 48}"],
    "register twice": [*PCR0, "--pcr", f"0={'11' * 48}"],
    "odd nonce": ["--any-pcrs", "--nonce", "abc"],
    "no time": ["--any-pcrs", "--at", "yesterday"],
    "two times": ["--any-pcrs", "--at", "2026-11-23", "--at-document-time"],
    "negative age": ["--any-pcrs", "--max-age", "-1"],
    "age without a clock": ["--any-pcrs", "--at-document-time", "--max-age", "5"],
    "empty nonce": ["--any-pcrs", "--nonce", ""],
    "large nonce": ["--any-pcrs", "--nonce", "00" * 1025],
    "role that is none": ["--role-arn", "foo"],
    "no role": ["--role-arn", ""],
    "instance that is none": ["--instance-id", "foo"],
    "empty root": ["--any-pcrs", "--root", ""],
    "empty image": ["--image", ""],
    "registers of nothing": ["--pcr", f"16={'00' * 48}"],
    "part of a second": ["--any-pcrs", "--max-age", "0.5"],
    "unknown option": ["--any-pcrs", "--any"],
}


@pytest.mark.parametrize("words", USAGE.values(), ids=USAGE)
def test_wrong_usage_is_told_apart(
    words: list[str], document: str, root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with a reason, before anything is read."""
    assert command(document, *root, *words) == 2
    assert "error: " in capsys.readouterr().err


def test_an_empty_name_names_nothing(root: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unset variable is wrong usage, not the current directory."""
    assert command("", *root, "--any-pcrs") == 2
    assert "argument DOC: it is empty" in capsys.readouterr().err
    for words in (["request", "", "--any-pcrs"], ["request", "x", "--any-pcrs", "-o", ""], ["diff", "a", ""]):
        with pytest.raises(SystemExit) as stop:
            main(["attestation", *words])
        assert stop.value.code == 2


def test_unreadable_files_are_named(
    document: str, root: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, oversized and senseless inputs are one sentence and exit 2; with --json an object too."""
    large = tmp_path / "large"
    large.write_bytes(bytes(70_000))
    text = tmp_path / "text"
    text.write_text("this is not a document!")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    for words, reason in (
        ([str(tmp_path / "absent"), *root], "absent' cannot be read: No such file"),
        ([str(tmp_path), *root], "cannot be read: Is a directory"),
        ([str(large), *root], "larger than any attestation document"),
        ([str(text), *root], "neither a raw document nor one in base64 or hex"),
        ([document, "--root", str(tmp_path / "absent")], "root certificate"),
        ([document, "--root", str(text)], "does not hold certificates"),
        ([document, "--root", str(empty)], "does not hold certificates"),
    ):
        assert command(*words, "--any-pcrs") == 2
        out, err = capsys.readouterr()
        assert reason in err
        assert (out, err.count("\n")) == ("", 1)
        assert command(*words, "--any-pcrs", "--json") == 2
        out, err = capsys.readouterr()
        assert json.loads(out) == {"Verified": None, "Error": err.removeprefix("cloister: ").rstrip("\n")}
    assert command(str(empty), *root, "--any-pcrs") == 1
    assert "step 2 (size)" in capsys.readouterr().err


def test_what_was_not_compared_is_said(
    document: str, root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever accepts any registers and any age reads so, and programs too."""
    assert command(document, *root, *AT, "--any-pcrs") == 0
    text = capsys.readouterr().out
    assert "NOT compared: PCRs, nonce, user_data, public_key, age\n" in text
    assert "at any time in its signer's life, some three hours" in text
    assert command(document, *root, *AT, *PCR0, "--max-age", "60", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["Compared"] == ["PCR0", "age"]
    assert answer["NotCompared"] == ["nonce", "user_data", "public_key"]


def test_a_debug_document_is_explained(
    tmp_path: Path, root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No image's registers are found in debug mode: the refusal names the options that are meant."""
    path = tmp_path / "debug"
    path.write_bytes(sign(CHAIN.credentials(NOW), module_id=MODULE_ID, now=NOW, pcrs=PcrBank().locked()))
    assert command(str(path), *root, *AT, *PCR0, "--allow-debug") == 1
    assert "PCR0 is zero, as in debug mode" in (err := capsys.readouterr().err)
    assert err.endswith("say --any-pcrs --allow-debug\n")
    assert command(str(path), *root, *AT, "--any-pcrs", "--allow-debug") == 0


def test_a_name_that_cannot_be_read_is_no_crash(
    tmp_path: Path, root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Names are compared as bytes, so that a verified chain may hold one that is no text: it is said so."""
    credentials = CHAIN.credentials(NOW)
    leaf = x509.load_der_x509_certificate(credentials.certificate)
    name = f"{MODULE_ID}.{REGION}.local".encode()
    text = bytes([0x0C, len(name)]) + name
    assert text in leaf.tbs_certificate_bytes
    signed = leaf.tbs_certificate_bytes.replace(text, text[:2] + b"\xff" + text[3:])
    signature = CHAIN.instance.key.sign(signed, ec.ECDSA(hashes.SHA384()))
    bits = bytes([0x03, len(signature) + 1, 0]) + signature
    content = signed + bytes.fromhex("300a06082a8648ce3d040303") + bits
    certificate = bytes([0x30, 0x82]) + len(content).to_bytes(2, "big") + content
    odd = replace(credentials, certificate=certificate)
    path = tmp_path / "odd"
    path.write_bytes(sign(odd, module_id=MODULE_ID, now=NOW, pcrs=PCRS))
    assert command(str(path), *root, *PCR0, *AT) == 0
    assert "unreadable (" in capsys.readouterr().out
    assert command(str(path), *root, *PCR0, *AT, "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["Signers"][4]) == {"Fingerprint", "Problem"}


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER], ids=["PEM", "DER"])
def test_a_revocation_list_of_the_operator_s_counts(
    document: str, root: list[str], tmp_path: Path, encoding: Encoding, capsys: pytest.CaptureFixture[str]
) -> None:
    """A certificate that it names refuses every document under it; a list of others changes nothing."""
    path = tmp_path / "list"
    for serial, code in ((CHAIN.instance.certificate.serial_number, 1), (99, 0)):
        entry = x509.RevokedCertificateBuilder(serial, NOW).build()
        crl = x509.CertificateRevocationListBuilder(CHAIN.zonal.certificate.subject, NOW, NOW, [], [entry])
        path.write_bytes(crl.sign(CHAIN.zonal.key, hashes.SHA384()).public_bytes(encoding))
        assert command(document, *root, *PCR0, *AT, "--crl", str(path), "--json") == code
        answer = json.loads(capsys.readouterr().out)
        assert answer.get("Name") == ("revocation" if code else None)


@pytest.mark.parametrize(
    "content", [None, b"", b"-----BEGIN X509 CRL-----\n", b"\x30\x80", bytes((1 << 20) + 1)]
)
def test_what_is_no_revocation_list_is_one_sentence(
    document: str, root: list[str], tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list that is missing, damaged or endless stops the verification: it is not passed over."""
    path = tmp_path / "list"
    if content is not None:
        path.write_bytes(content)
    assert command(document, *root, *PCR0, *AT, "--crl", str(path)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "revocation list" in err
    assert len(err.splitlines()) == 1


def test_the_payload_can_be_reconstructed(
    document: str, root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """--reconstruct demands that what is expected, written as AWS writes it, is what was signed."""
    assert command(document, *root, *PCR0, *AT, "--reconstruct") == 0
    assert "verified" in capsys.readouterr().out
