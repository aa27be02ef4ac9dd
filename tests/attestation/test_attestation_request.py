"""``cloister attestation request`` against a simulated enclave, and what --image and --signer expect."""

import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.attestation import Document, sign
from cloister.cli.main import main
from cloister.cose import Sign1
from cloister.eif import Image, SectionSource, SectionType, sign_pcr0, write_eif
from cloister.measure import measure
from cloister.pcrs import PcrBank, extend
from cloister.sdk import ATTESTATION_PORT, serve_attestation
from cloister.transport import listen, listener_path
from simulators.local_chain import INSTANCE_ID, MODULE_ID, local_chain
from simulators.signing_keys import self_signed

Capture = pytest.CaptureFixture[str]

NOW = datetime.now(UTC)
CHAIN = local_chain(NOW)
CREDENTIALS = CHAIN.credentials(NOW)
KEY = ec.generate_private_key(ec.SECP384R1())
SIGNER = self_signed(KEY)
ROLE = "arn:aws:iam::123456789012:role/name"
SECTIONS = ((SectionType.KERNEL, b"k"), (SectionType.CMDLINE, b"c"), (SectionType.RAMDISK, b"r"))


def image(*, signed: bool) -> bytes:
    """Return a small image."""
    sections = [SectionSource.of(*section) for section in SECTIONS]
    out = io.BytesIO()
    write_eif(out, sections)
    if signed:
        pcr0 = measure(Image.from_buffer(out.getvalue())).pcr0
        out = io.BytesIO()
        signature = sign_pcr0(pcr0, SIGNER.public_bytes(Encoding.PEM), KEY).to_bytes()
        write_eif(out, [*sections, SectionSource.of(SectionType.SIGNATURE, signature)])
    return out.getvalue()


IMAGE = image(signed=True)
ZERO = bytes(48)
PCRS = PcrBank(
    measure(Image.from_buffer(IMAGE)).registers()
    | {3: extend(ZERO, ROLE.encode()), 4: extend(ZERO, INSTANCE_ID.encode())}
).locked()


def document(**fields: Any) -> bytes:
    """Sign a document now."""
    return sign(CREDENTIALS, module_id=MODULE_ID, now=datetime.now(UTC), pcrs=PCRS, **fields)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the commands a host of their own: directories, a root to name, images, certificates."""
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(tmp_path / "run"))
    monkeypatch.setenv("NITRO_CLI_LOGS_PATH", str(tmp_path / "logs"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    Path("root.pem").write_bytes(CHAIN.root.certificate.public_bytes(Encoding.PEM))
    Path("other.pem").write_bytes(local_chain().root.certificate.public_bytes(Encoding.PEM))
    Path("signer.pem").write_bytes(SIGNER.public_bytes(Encoding.PEM))
    Path("signed.eif").write_bytes(IMAGE)
    Path("unsigned.eif").write_bytes(image(signed=False))
    Path("hello.cose").write_bytes(document(nonce=bytes(32)))
    return tmp_path


def command(verb: str, *words: str) -> int:
    """Run the command as ``main`` does, and return its exit code."""
    try:
        return main(["attestation", verb, *words])
    except SystemExit as stop:
        return int(stop.code or 0)


def expected(*options: str) -> int:
    """Verify the document with some expectations."""
    return command("verify", "hello.cose", "--root", "root.pem", *options)


def test_measurements_may_be_named_by_what_they_measure(host: Path, capsys: Capture) -> None:
    """An image, its signer, the host's role and instance id stand for their registers, and add up."""
    assert PCRS[8] == extend(ZERO, hashlib.sha384(SIGNER.public_bytes(Encoding.DER)).digest())
    assert PCRS[4] == hashlib.sha384(ZERO + INSTANCE_ID.encode()).digest()
    everything = [
        "--image",
        "signed.eif",
        "--signer",
        "signer.pem",
        "--role-arn",
        ROLE,
        "--instance-id",
        INSTANCE_ID,
    ]
    for options in (
        everything,
        *(everything[i : i + 2] for i in range(0, 8, 2)),
        ["--image", "unsigned.eif"],
    ):
        assert expected(*options) == 0
    other = self_signed(ec.generate_private_key(ec.SECP384R1())).public_bytes(Encoding.PEM)
    (host / "another.pem").write_bytes(other)
    capsys.readouterr()
    for options, register in (
        (["--signer", "another.pem"], "PCR8"),
        (["--role-arn", f"{ROLE}2"], "PCR3"),
        (["--instance-id", "i-00000000000000001"], "PCR4"),
    ):
        assert expected(*options) == 1
        err = capsys.readouterr().err
        assert f"(pcrs): {register} is " in err
        assert register == "PCR8" or err.endswith(f", which is that of {options[1]}\n")


def test_nitrotpm_registers_are_expected_by_their_own_option(host: Path, capsys: Capture) -> None:
    """An enclave's registers never stand for a TPM's, nor a TPM's for an enclave's."""
    registers = {4: b"\4" * 48, 7: b"\7" * 48}
    content = Document(
        module_id="i-0123456789abcdef0-tpm0123456789abcdef",
        timestamp=int(NOW.timestamp() * 1000),
        pcrs=registers,
        certificate=CREDENTIALS.certificate,
        cabundle=CREDENTIALS.cabundle,
        nitrotpm=True,
    )
    (host / "hello.cose").write_bytes(Sign1.sign(content.to_bytes(), CREDENTIALS.key).to_bytes())
    assert expected("--nitrotpm-pcr", f"4={'04' * 48}", "--nitrotpm-pcr", f"7={'07' * 48}") == 0
    assert expected("--nitrotpm-pcr", f"4={'05' * 48}") == 1
    assert expected("--pcr", f"4={'04' * 48}") == 1
    assert expected("--any-pcrs") == 0
    assert "PCR7        " + "07" * 48 + "  Secure Boot policy" in capsys.readouterr().out


def test_several_roots_may_be_trusted(host: Path) -> None:
    """The document's root may stand in any of the files."""
    verify = ("verify", "hello.cose", "--any-pcrs", "--root", "other.pem")
    assert command(*verify, "--root", "root.pem") == 0
    assert command(*verify) == 1


USAGE = {
    "contradiction": (["--image", "signed.eif", "--pcr", f"0={'00' * 48}"], "PCR0 is given twice"),
    "another signer": (["--image", "signed.eif", "--pcr", f"8={'11' * 48}"], "by --pcr and by --image"),
    "any and some": (["--any-pcrs", "--image", "signed.eif"], "not allowed with argument --image"),
    "nothing": ([], "is required"),
}


@pytest.mark.parametrize(("options", "reason"), USAGE.values(), ids=USAGE)
def test_contradictions_are_wrong_usage(options: list[str], reason: str, host: Path, capsys: Capture) -> None:
    """Exit 2: no document could meet them."""
    assert expected(*options) == 2
    assert reason in capsys.readouterr().err


def test_unreadable_expectations_are_one_sentence(host: Path, capsys: Capture) -> None:
    """A missing image, one that is none, a file without or with several certificates."""
    (host / "two.pem").write_bytes((host / "signer.pem").read_bytes() * 2)
    for options, reason in (
        (["--image", "absent.eif"], "absent.eif cannot be opened"),
        (["--image", "hello.cose"], "EIF"),
        (["--signer", "absent.pem"], "signer's certificate 'absent.pem' cannot be read"),
        (["--signer", "signed.eif"], "does not hold certificates"),
        (["--signer", "two.pem"], "holds 2 certificates, one was expected"),
    ):
        assert expected(*options) == 2
        err = capsys.readouterr().err
        assert reason in err
        assert err.count("\n") == 1


def test_a_document_is_compared_with_an_image(host: Path, capsys: Capture) -> None:
    """Only what an image measures counts: 0 when it is the same, 1 with the registers that differ."""
    assert command("diff", "hello.cose", "signed.eif") == 0
    assert command("diff", "signed.eif", "signed.eif") == 0
    assert capsys.readouterr().out == ""
    assert command("diff", "hello.cose", "unsigned.eif") == 1
    assert capsys.readouterr().out.startswith("PCR8  (the image's signing certificate)\n< ")
    assert command("diff", "hello.cose", "signed.eif", "--only", "time") == 2
    (host / "debug.cose").write_bytes(
        sign(CREDENTIALS, module_id=MODULE_ID, now=datetime.now(UTC), pcrs=PcrBank().locked())
    )
    capsys.readouterr()
    assert command("diff", "debug.cose", "signed.eif") == 1
    out = capsys.readouterr().out
    note = "(the whole image, in debug mode a document shows no image's)"
    assert out.startswith(f"PCR0  {note}\n< {'00' * 48}\n> {PCRS[0].hex()}\n")
    assert command("diff", "absent.cose", "signed.eif", "--json") == 2
    assert "No such file" in json.loads(capsys.readouterr().out)["Error"]


@contextmanager
def enclave(attest: Callable[..., bytes] = document) -> Iterator[None]:
    """Serve documents at CID 16 with the in-enclave library itself."""
    with serve_attestation(attest=attest, listener=listen(ATTESTATION_PORT, cid=16)):
        yield
    listener_path(ATTESTATION_PORT, cid=16).unlink()


def asked(*options: str) -> int:
    """Ask the enclave."""
    return command("request", "16", "--root", "root.pem", *options)


def test_an_enclave_is_asked_and_verified(host: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """With a fresh nonce each time; the document is printed, told as JSON, or written."""
    with enclave():
        assert asked("--image", "signed.eif") == 0
        assert b"verified: all" in capfdbinary.readouterr().out
        assert asked("--any-pcrs", "--json", "--output", "absent/own.cose") == 2
        out, err = capfdbinary.readouterr()
        assert json.loads(out) == {"Verified": None, "Error": "absent/own.cose: No such file or directory"}
        assert err == b"cloister: absent/own.cose: No such file or directory.\n"
        assert asked("--any-pcrs", "--json", "--output", "own.cose") == 0
        nonce = json.loads(capfdbinary.readouterr().out)["Nonce"]
        assert expected("--nonce", nonce, "--any-pcrs") == 1
        assert command("verify", "own.cose", "--root", "root.pem", "--nonce", nonce, "--any-pcrs") == 0
        capfdbinary.readouterr()
        assert asked("--any-pcrs", "--nonce", "07" * 20, "--output", "-") == 0
        out, err = capfdbinary.readouterr()
        assert err == b"nonce " + b"07" * 20 + b"\n"
        (host / "piped.cose").write_bytes(out)
        assert command("verify", "piped.cose", "--root", "root.pem", "--nonce", "07" * 20, "--any-pcrs") == 0


def test_what_does_not_verify_is_neither_printed_nor_written(host: Path, capsys: Capture) -> None:
    """Wrong measurements, a foreign root, and a document that answers somebody else's nonce."""
    with enclave():
        assert asked("--pcr", f"0={'11' * 48}", "--output", "own.cose") == 1
        assert "(pcrs): PCR0 is " in capsys.readouterr().err
        assert command("request", "16", "--root", "other.pem", "--any-pcrs", "--output", "own.cose") == 1
        assert "(root)" in capsys.readouterr().err
    old = document(nonce=bytes(32))
    with enclave(lambda **_: old):
        assert asked("--any-pcrs", "--output", "own.cose") == 1
        assert "(nonce): the document's nonce is 0000" in capsys.readouterr().err
        assert asked("--any-pcrs", "--json") == 1
        assert json.loads(capsys.readouterr().out)["Name"] == "nonce"
    assert not (host / "own.cose").exists()


def test_an_enclave_that_cannot_be_asked_is_one_sentence(host: Path, capsys: Capture) -> None:
    """Exit 2: no such enclave, nobody who listens, a nonce of a size that is not sent."""
    with enclave():
        for word, options, reason in (
            ("16", ["--port", "3301", "--wait", "0.1"], "nothing accepts connections on (CID 16, port 3301)"),
            ("17", [], "no enclave with CID 17 runs"),
            ("4294967295", [], "4294967295"),
            ("absent", [], "absent"),
        ):
            assert command("request", word, "--root", "root.pem", "--any-pcrs", *options) == 2
            err = capsys.readouterr().err
            assert reason in err
            assert err.count("\n") == 1
    assert asked("--any-pcrs", "--nonce", "00") == 2
    assert "an enclave is asked with 16 to 64 bytes, not 1" in capsys.readouterr().err
    for options in (["--port", "0"], ["--port", "x"], ["--output", "-", "--json"], ["--wait", "-1"]):
        assert asked("--any-pcrs", *options) == 2


def test_an_enclave_whose_program_still_starts_is_waited_for(host: Path) -> None:
    """The multiplexer refuses until somebody listens; the command tries again."""
    done: list[int] = []
    (host / "run/vsock/16").mkdir(parents=True)
    asking = threading.Thread(target=lambda: done.append(asked("--any-pcrs")))
    asking.start()
    with enclave():
        asking.join()
    assert done == [0]
