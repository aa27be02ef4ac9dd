"""The image commands as a person meets them: output, exit codes, one sentence for what is wrong."""

import json
import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.build import map_image
from cloister.cli.main import main
from cloister.cli.nitro import build_enclave, describe_eif, pcr, sign_eif
from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.grammar import Command, UsageExit, parse
from simulators.image_sources import make_kit, sample_layers, write_directory, write_oci_layout
from simulators.ramdisks import ramdisk_entries
from simulators.signing_keys import SigningFiles, write_signing_files

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory of its own, with a guest kit in this user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    make_kit(tmp_path / "cache/cloister/kits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def signing(here: Path) -> SigningFiles:
    return write_signing_files(here / "keys", ec.generate_private_key(ec.SECP384R1()))


def nitro(verb: ModuleType, *words: str) -> int:
    """Run one nitro-cli verb as its main would."""
    code: int = verb.run(parse(Command("nitro-cli", "", verb.OPTIONS), words))
    return code


def refused(code: str, verb: ModuleType, *words: str) -> str:
    with pytest.raises(NitroCliError) as error:
        nitro(verb, *words)
    assert error.value.code == code
    return str(error.value)


def build(here: Path, *options: str) -> None:
    write_directory(here / "root")
    assert main(["image", "build", "root", "-o", "x.eif", "--cmd", "/bin/entry -v", *options]) == 0


def test_build_prints_the_registers(here: Path, capsys: Capture) -> None:
    """People get lines, programs get JSON, both the same registers."""
    build(here)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"x\.eif  [\d,]+ bytes", lines[0])
    assert main(["image", "build", "root", "-o", "x.eif", "--cmd", '["/bin/entry", "-v"]', "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["Measurements"]
    assert lines[1:] == [f"PCR{index}  {measured[f'PCR{index}']}" for index in range(3)]


def test_describe_repeats_what_build_said(here: Path, capsys: Capture) -> None:
    """Describing an image gives the registers it was built with, and where it comes from."""
    build(here, "--name", "hello", "--version", "7")
    built = capsys.readouterr().out.splitlines()[1:]
    assert main(["image", "describe", "x.eif"]) == 0
    shown = capsys.readouterr().out
    assert all(line in shown.splitlines() for line in built)
    assert "Name          hello, version 7" in shown
    assert main(["image", "describe", "x.eif", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert [section["Type"] for section in described["Sections"]] == [
        "kernel", "cmdline", "metadata", "ramdisk", "ramdisk",
    ]  # fmt: skip
    assert len(described["KitDigest"]) == 64


def test_describe_does_not_let_an_image_drive_the_terminal(here: Path, capsys: Capture) -> None:
    """Control characters of an image's own text are spelled out."""
    build(here, "--name", "a\x1b[2Jb\nPCR0  forged")
    capsys.readouterr()
    assert main(["image", "describe", "x.eif"]) == 0
    assert "Name          a\\x1b[2Jb\\nPCR0  forged, version 1.0" in capsys.readouterr().out.splitlines()


BUILD = ["build", "root", "-o", "x.eif"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["build", "./nowhere", "-o", "x.eif"], "The source nowhere does not exist."),
        (BUILD, "The image names no command to run; 'cloister image build --cmd' gives it one."),
        (["build", "root", "-o", "no/x.eif"], "The output's directory no does not exist."),
        (["build", "root", "-o", "root", "--cmd", "a"], "The output root is a directory."),
        ([*BUILD, "--cmd", "'"], "The command \"'\" cannot be read: No closing quotation."),
        ([*BUILD, "--cmd", "[1]"], "The command '[1]' is not a list of words."),
        ([*BUILD, "--cmd", "a", "--env", "A"], "The variable 'A' has no name and value;"),
        ([*BUILD, "--metadata", "root/etc/passwd"], "The metadata file root/etc/passwd is not JSON:"),
        ([*BUILD, "--cmd", "a", "--kit", "ffff"], "no kits have a digest"),
        (["describe", "nowhere.eif"], "nowhere.eif cannot be opened: No such file or directory."),
        (["describe", "root"], "root cannot be opened: Is a directory."),
        (["describe", "/dev/null"], "/dev/null cannot be opened: it is not a regular file."),
        (["describe", "root/etc/passwd"], "The file is 24 bytes long, shorter than the 548-byte header"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(here: Path, capsys: Capture, words: list[str], sentence: str) -> None:
    """Exit code 1, one line on stderr, nothing on stdout, no file."""
    write_directory(here / "root")
    before = sorted(here.iterdir())
    assert main(["image", *words]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"cloister: {sentence}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert sorted(here.iterdir()) == before


def test_no_kit_is_one_sentence(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a guest kit the build says so and leaves nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "empty"))
    write_directory(here / "root")
    assert main(["image", "build", "root", "-o", "x.eif", "--cmd", "a"]) == 1
    assert "kit" in capsys.readouterr().err
    assert not (here / "x.eif").exists()


def test_half_a_signing_pair_is_wrong_usage(here: Path, capsys: Capture) -> None:
    """A certificate without a key is a usage error: exit code 2."""
    with pytest.raises(SystemExit, match="2"):
        main(["image", "build", "root", "-o", "x.eif", "--private-key", "k"])
    with pytest.raises(UsageExit, match="--signing-certificate"):
        nitro(build_enclave, "--docker-uri", "dir:r", "--output-file", "x", "--private-key", "k")
    with pytest.raises(UsageExit, match="--private-key"):
        nitro(sign_eif, "--eif-path", "x.eif", "--signing-certificate", "c")


def described(capsys: Capture, path: str = "x.eif") -> dict[str, Any]:
    capsys.readouterr()
    assert nitro(describe_eif, "--eif-path", path) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def test_overrides_are_in_the_image(here: Path) -> None:
    """ENTRYPOINT, CMD, WORKDIR and USER are what the options say; an empty ENTRYPOINT is none."""
    write_oci_layout(here / "oci", sample_layers())
    for options, command in [
        (["--entrypoint", "/bin/sh -c", "--cmd", "echo"], b"/bin/sh\n-c\necho\n"),
        (["--entrypoint", "", "--cmd", '["a b"]'], b"a b\n"),
    ]:
        words = ["image", "build", "oci", "-o", "x.eif", "--workdir", "/w", "--user", "7:8", *options]
        assert main(words) == 0
        ramdisk = bytes(map_image(here / "x.eif").ramdisks[1])
        found = {entry.name: entry.body for entry in ramdisk_entries(ramdisk)}
        assert (found[b"cmd"], found[b"workdir"], found[b"user"]) == (command, b"/w\n", b"7:8\n")


def test_compat_aws_takes_no_workdir_or_user(here: Path, capsys: Capture) -> None:
    """What AWS's images cannot say is wrong usage beside --compat aws, not ignored."""
    with pytest.raises(SystemExit) as stopped:
        main(["image", "build", "x", "-o", "x.eif", "--compat", "aws", "--user", "app"])
    assert stopped.value.code == 2
    assert "--compat aws ignores WORKDIR and USER" in capsys.readouterr().err


def test_build_enclave_speaks_as_aws_does(here: Path, capsys: Capture) -> None:
    """Chatter on stderr, measurements on stdout, AWS's keys in AWS's order in the description."""
    (here / "m.json").write_text('{"Owner": "me", "BuildTime": "mine"}')
    write_oci_layout(here / "oci", sample_layers())
    words = ["--docker-uri", "oci:oci", "--output-file", "x.eif", "--metadata", "m.json"]
    assert nitro(build_enclave, *words) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "Start building the Enclave Image...",
        "Using the locally available Docker image...",
        "Enclave Image successfully created.",
    ]
    built = json.loads(printed.out)
    assert list(built["Measurements"]) == ["HashAlgorithm", "PCR0", "PCR1", "PCR2"]
    shown = described(capsys)
    keys = ["EifVersion", "Measurements", "IsSigned", "CheckCRC", "ImageName", "ImageVersion", "Metadata"]
    assert list(shown) == keys
    assert (shown["EifVersion"], shown["IsSigned"], shown["CheckCRC"]) == (4, False, True)
    assert shown["Measurements"] == built["Measurements"]
    assert shown["ImageName"] == "hello"
    assert list(shown["Metadata"]) == [
        "BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion",
        "DockerInfo", "Owner",
    ]  # fmt: skip
    assert shown["Metadata"]["BuildTime"] == "2024-02-03T04:05:06.123456+00:00"


def test_sign_eif_signs_and_signs_again(here: Path, capsys: Capture, signing: SigningFiles) -> None:
    """Signing adds PCR8, which pcr computes too, and shows the certificate as OpenSSL prints it."""
    build(here)
    keys = ["--signing-certificate", str(signing.certificate), "--private-key", str(signing.private_key)]
    for _ in range(2):
        capsys.readouterr()
        assert nitro(sign_eif, "--eif-path", "x.eif", *keys) == 0
        printed = capsys.readouterr()
        assert printed.err == "Enclave Image successfully signed.\n"
        signed = json.loads(printed.out)["Measurements"]
        assert list(signed) == ["HashAlgorithm", "PCR0", "PCR1", "PCR2", "PCR8"]
    shown = described(capsys)
    assert (shown["IsSigned"], shown["SignatureCheck"], shown["Measurements"]) == (True, True, signed)
    certificate = shown["SigningCertificate"]
    assert certificate["IssuerName"] == {"commonName": "image signer", "countryName": "CH"}
    assert certificate["Algorithm"] == "ecdsa-with-SHA384"
    dates = subprocess.run(
        ["openssl", "x509", "-noout", "-dates", "-in", signing.certificate], capture_output=True, check=True
    )
    assert dates.stdout.decode().splitlines() == [
        f"notBefore={certificate['NotBefore']}",
        f"notAfter={certificate['NotAfter']}",
    ]
    assert nitro(pcr, "--signing-certificate", str(signing.certificate)) == 0
    assert json.loads(capsys.readouterr().out) == {"PCR8": signed["PCR8"]}


def test_a_header_left_stale_is_described_with_a_note(
    here: Path, capsys: Capture, signing: SigningFiles
) -> None:
    """An image that nitro-cli signed anew is described, with a word on stderr, and repaired by sign-eif."""
    build(here)
    keys = ["--signing-certificate", str(signing.certificate), "--private-key", str(signing.private_key)]
    assert nitro(sign_eif, "--eif-path", "x.eif", *keys) == 0
    good = (here / "x.eif").read_bytes()
    (size,) = struct.unpack_from(">Q", good, 284 + 8 * 5)
    stale = good[: 284 + 8 * 5] + struct.pack(">Q", size - 7) + good[284 + 8 * 6 :]
    crc32 = zlib.crc32(stale[548:], zlib.crc32(stale[:544]))
    (here / "x.eif").write_bytes(stale[:544] + struct.pack(">I", crc32) + stale[548:])
    capsys.readouterr()
    assert nitro(describe_eif, "--eif-path", "x.eif") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["SignatureCheck"] is True
    assert f"the signature has {size - 7} bytes, but it has {size}" in printed.err
    assert nitro(sign_eif, "--eif-path", "x.eif", *keys) == 0
    capsys.readouterr()
    assert nitro(describe_eif, "--eif-path", "x.eif") == 0
    assert capsys.readouterr().err == ""


def test_issuers_are_named_as_openssl_names_them(here: Path, capsys: Capture) -> None:
    """IssuerName has OpenSSL's long names in order, also of attributes that RFC 4514 has none for."""
    build(here)
    name = "/C=CH/ST=Bern/L=Thun/O=Example/OU=Zebra/OU=Images/CN=Signer/emailAddress=a@example.org"
    name += "/serialNumber=5/SN=S/GN=G/pseudonym=p/street=Way 1/postalCode=3600/title=Dr/UID=u/DC=org"
    name += "/initials=S/dnQualifier=q/description=d"
    name += "/businessCategory=b/generationQualifier=g/organizationIdentifier=o"
    for words in (
        ["ecparam", "-name", "prime256v1", "-genkey", "-out", "key.pem"],
        ["req", "-new", "-x509", "-key", "key.pem", "-days", "2", "-subj", name, "-out", "certificate.pem"],
    ):
        subprocess.run(["openssl", *words], capture_output=True, check=True)
    keys = ["--signing-certificate", "certificate.pem", "--private-key", "key.pem"]
    assert nitro(sign_eif, "--eif-path", "x.eif", *keys) == 0
    shown = described(capsys)["SigningCertificate"]["IssuerName"]
    words = ["openssl", "x509", "-in", "certificate.pem", "-noout", "-issuer"]
    told = subprocess.run([*words, "-nameopt", "sep_multiline,lname"], capture_output=True, check=True)
    lines = [line.strip() for line in told.stdout.decode().splitlines()[1:]]
    last = dict(line.split("=", 1) for line in lines)
    assert len(last) == len(lines) - 1
    assert shown == last
    assert list(shown) == sorted(shown)


def test_build_enclave_signs(here: Path, capsys: Capture, signing: SigningFiles) -> None:
    """A build with a certificate and key is signed at once."""
    write_oci_layout(here / "oci", sample_layers())
    keys = ["--signing-certificate", str(signing.certificate), "--private-key", str(signing.private_key)]
    assert nitro(build_enclave, "--docker-uri", "oci:oci", "--output-file", "x.eif", *keys) == 0
    assert "PCR8" in json.loads(capsys.readouterr().out)["Measurements"]
    assert described(capsys)["SignatureCheck"] is True


def test_pcr_of_a_file_is_its_register(here: Path, capsys: Capture) -> None:
    """The value is SHA384(zeros, SHA384(file)), checked with OpenSSL."""
    (here / "file").write_bytes(b"any bytes")

    def sha384(data: bytes) -> bytes:
        words = ["openssl", "dgst", "-sha384", "-binary"]
        return subprocess.run(words, input=data, capture_output=True, check=True).stdout

    assert nitro(pcr, "--input", "file") == 0
    assert json.loads(capsys.readouterr().out) == {"PCR": sha384(bytes(48) + sha384(b"any bytes")).hex()}


def test_damaged_image_is_described_and_refused(here: Path, capsys: Capture) -> None:
    """A wrong checksum shows as CheckCRC false, as AWS's does, and the command fails with E35."""
    build(here)
    data = bytearray((here / "x.eif").read_bytes())
    data[-600] ^= 1
    (here / "x.eif").write_bytes(data)
    capsys.readouterr()
    assert "checksum" in refused("E35", describe_eif, "--eif-path", "x.eif")
    assert json.loads(capsys.readouterr().out)["CheckCRC"] is False


def test_errors_have_nitro_clis_numbers(
    here: Path, signing: SigningFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are E19, images E35, building E48 to E50, hashing E57, signing E60, missing arguments E01."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{here}/none.sock")
    build(here)
    (here / "short.eif").write_bytes((here / "x.eif").read_bytes()[:-1])
    keys = ["--signing-certificate", str(signing.certificate), "--private-key", str(signing.private_key)]
    foreign = write_signing_files(here / "other", ec.generate_private_key(ec.SECP384R1()))
    mixed = ["--signing-certificate", str(signing.certificate), "--private-key", str(foreign.private_key)]
    out = ["--output-file", "y.eif"]
    cases: list[tuple[str, ModuleType, list[str], str]] = [
        ("E19", describe_eif, ["--eif-path", "nowhere"], "File: 'nowhere', failing operation: 'Open'"),
        ("E35", describe_eif, ["--eif-path", "short.eif"], "truncated"),
        ("E19", pcr, ["--input", "nowhere"], "failing operation: 'Open'"),
        ("E57", pcr, ["--signing-certificate", "x.eif"], "not a PEM certificate"),
        ("E01", sign_eif, keys, "User did not provide the `eif-path` argument."),
        ("E60", sign_eif, ["--eif-path", "x.eif"], "missing"),
        ("E60", sign_eif, ["--eif-path", "x.eif", *mixed], "does not belong"),
        ("E60", sign_eif, ["--eif-path", "x.eif", *keys[:3], "arn:aws:kms:x:1:key/2"], "not a KMS key's ARN"),
        ("E60", sign_eif, ["--eif-path", "x.eif", *keys[:3], "pkcs11:token=a"], "must have token"),
        ("E60", build_enclave, ["--docker-uri", "dir:root", *out, *keys[:3], "pkcs11:x"], "not understood"),
        ("E19", sign_eif, ["--eif-path", "x.eif", *keys[:3], "nowhere"], "File: 'nowhere'"),
        ("E19", sign_eif, ["--eif-path", "nowhere", *keys], "failing operation: 'Open'"),
        ("E35", sign_eif, ["--eif-path", "short.eif", *keys], "truncated"),
        ("E50", build_enclave, ["--docker-uri", "docker-daemon:hello", *out], "no Docker daemon"),
        ("E49", build_enclave, ["--docker-uri", "hello", "--docker-dir", ".", *out], "named Dockerfile"),
        ("E48", build_enclave, ["--docker-uri", "oci:nowhere", *out], "does not exist"),
        ("E48", build_enclave, ["--docker-uri", "dir:root", *out], "no command to run"),
        ("E19", build_enclave, ["--docker-uri", "dir:root", "--metadata", "nowhere", *out], "nowhere"),
    ]  # fmt: skip
    before = (here / "x.eif").read_bytes()
    for code, verb, words, message in cases:
        assert message in refused(code, verb, *words)
    assert (here / "x.eif").read_bytes() == before
    assert not (here / "y.eif").exists()


def test_an_interrupted_build_leaves_nothing(here: Path) -> None:
    """SIGTERM in the middle of a build removes the temporary file too."""
    (here / "root").mkdir()
    with (here / "root/large").open("wb") as large:
        large.truncate(3 << 30)
    words = [sys.executable, "-m", "cloister.cli.main", "image", "build", "root", "-o", "x.eif", "--cmd", "a"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, cwd=here)
    try:
        while not (begun := list(here.glob(".x.eif.*"))) and process.poll() is None:
            time.sleep(0.005)
        process.terminate()
        _, complaint = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert begun
    assert process.returncode == 130
    assert complaint.decode() == "cloister: interrupted\n"
    assert not list(here.glob("*x.eif*"))


def test_an_error_that_quotes_a_name_does_not_drive_the_terminal(here: Path, capsys: Capture) -> None:
    """Control characters of a name are spelled out."""
    assert main(["image", "build", "./\x1b[31mred", "-o", "x.eif"]) == 1
    assert capsys.readouterr().err == "cloister: The source \\x1b[31mred does not exist.\n"
