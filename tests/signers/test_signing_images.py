"""Images signed and signed anew: registers, headers, files, and what an independent reader says of them."""

import os
import struct
import subprocess
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from cloister.build import map_image, sign_image
from cloister.eif import EifError, Image, SignatureError, SignatureSection, sign_pcr0
from cloister.measure import measure
from cloister.signers import PemSigner
from simulators.openssl_check import RefusedError, openssl_check
from simulators.signing_keys import issued, self_signed, write_signing_files
from simulators.small_image import write_small_image

NOW = datetime.now(UTC)
KEY = ec.generate_private_key(ec.SECP384R1())
PEM = self_signed(KEY).public_bytes(Encoding.PEM)
CURVES = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]
NAMES = ["P-256", "P-384", "P-521"]


def signer(directory: Path, curve: ec.EllipticCurve | None = None) -> PemSigner:
    files = write_signing_files(directory, ec.generate_private_key(curve or ec.SECP384R1()))
    return PemSigner.load(files.certificate, files.private_key, NOW)


@pytest.mark.parametrize("second", CURVES, ids=NAMES)
@pytest.mark.parametrize("first", CURVES, ids=NAMES)
def test_signing_anew_is_as_if_never_signed(
    tmp_path: Path, first: ec.EllipticCurve, second: ec.EllipticCurve
) -> None:
    """Whatever the first signature's length, the second leaves PCR0 to 2 and all other bytes alone."""
    path = write_small_image(tmp_path / "x.eif")
    plain, before = path.read_bytes(), measure(map_image(path))
    sign_image(path, signer(tmp_path / "first", first))
    last = signer(tmp_path / "second", second)
    measured = sign_image(path, last)
    assert (measured.pcr0, measured.pcr1, measured.pcr2) == (before.pcr0, before.pcr1, before.pcr2)
    assert openssl_check(path) == {"PCR0": before.pcr0, "PCR8": measured.pcr8}
    image = map_image(path)
    assert image.signature is not None
    assert image.signature.certificate_pem == last.certificate.pem
    assert len(image.header.sizes) == 6
    end = len(plain)
    assert path.read_bytes()[548:end] == plain[548:]
    assert image.header.offsets[5] == end
    assert image.header.sizes[5] == path.stat().st_size - end - 12


def as_nitro_cli_signs_anew(path: Path, section: SignatureSection) -> None:
    """Replace the signature in place, with its own header and the checksum, and leave the header's table."""
    image = map_image(path)
    payload = section.to_bytes()
    body = path.read_bytes()[: image.header.offsets[5]] + struct.pack(">HHQ", 4, 0, len(payload)) + payload
    crc32 = zlib.crc32(body[548:], zlib.crc32(body[:544]))
    path.write_bytes(body[:544] + struct.pack(">I", crc32) + body[548:])


def test_a_header_left_stale_is_repaired(tmp_path: Path) -> None:
    """What nitro-cli leaves behind can be read when asked, is never loaded, and is right once signed here."""
    path = write_small_image(tmp_path / "x.eif")
    before = sign_image(path, signer(tmp_path / "first", ec.SECP256R1()))
    length = map_image(path).header.sizes[5]
    as_nitro_cli_signs_anew(path, signer(tmp_path / "second", ec.SECP521R1()).sign(before.pcr0))
    with pytest.raises(EifError, match=r"\(signature\) is .* bytes long .*: sign it anew with sign-eif\."):
        map_image(path)
    lenient = map_image(path, check_signature_size=False)
    assert lenient.stale_signature_size == length
    assert lenient.crc_ok
    assert measure(lenient).pcr0 == before.pcr0
    sign_image(path, signer(tmp_path / "third"))
    assert map_image(path).stale_signature_size is None
    assert openssl_check(path)["PCR0"] == before.pcr0


def test_only_a_signatures_size_may_be_stale(tmp_path: Path) -> None:
    """The other sections' sizes must be the header's, also for whoever asks for leniency."""
    path = write_small_image(tmp_path / "x.eif")
    sign_image(path, signer(tmp_path / "keys"))
    good = path.read_bytes()
    for index in range(5):
        damaged = bytearray(good)
        damaged[284 + 8 * index + 7] ^= 1
        with pytest.raises(EifError, match="by its own header"):
            Image.from_buffer(bytes(damaged), check_crc=False, check_signature_size=False)


def test_the_independent_check_refuses_what_is_wrong(tmp_path: Path) -> None:
    """Damage in each part that is signed, measured or counted is told by its own sentence."""
    path = write_small_image(tmp_path / "x.eif")
    with pytest.raises(RefusedError, match="there is no signature"):
        openssl_check(path)
    sign_image(path, signer(tmp_path / "keys"))
    good, image = path.read_bytes(), map_image(path)
    last = len(good) - 1
    for position, sealed, sentence in (
        (last, False, "the checksum is wrong"),
        (last, True, "does not verify"),
        (700, True, "another image's PCR0 is signed"),
        (284 + 7, True, "not as long as the header says"),
        (28 + 15, True, "not where the header says"),
    ):
        damaged = bytearray(good)
        damaged[position] ^= 1
        if sealed:
            damaged[544:548] = struct.pack(">I", zlib.crc32(damaged[548:], zlib.crc32(damaged[:544])))
        path.write_bytes(damaged)
        with pytest.raises(RefusedError, match=sentence):
            openssl_check(path)
    assert image.signature is not None


@given(st.binary(min_size=48, max_size=48))
def test_any_register_signs_and_verifies(pcr0: bytes) -> None:
    """Whatever PCR0 is, its signature's section survives encoding and holds for this value alone."""
    section = SignatureSection.from_bytes(sign_pcr0(pcr0, PEM, KEY).to_bytes())
    section.verify(pcr0, NOW)
    with pytest.raises(SignatureError):
        section.verify(bytes(byte ^ 1 for byte in pcr0))


def test_the_file_stays_its_owners(tmp_path: Path) -> None:
    """Mode and owner stay, and a symbolic link goes on pointing to the image it pointed to."""
    path = write_small_image(tmp_path / "x.eif")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1235)
    before = path.stat()
    link = tmp_path / "link.eif"
    link.symlink_to("x.eif")
    sign_image(link, signer(tmp_path / "keys"))
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert link.is_symlink()
    assert map_image(path).signature is not None


class _RefusingSigner:
    def sign(self, pcr0: bytes) -> SignatureSection:
        raise SignatureError(f"The key for {pcr0.hex()} is out of reach.")


def test_a_failing_signer_leaves_the_image_alone(tmp_path: Path) -> None:
    """The image is byte for byte what it was, and no temporary file lies beside it."""
    path = write_small_image(tmp_path / "x.eif")
    before = path.read_bytes()
    with pytest.raises(SignatureError, match="out of reach"):
        sign_image(path, _RefusingSigner())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unfit_certificates_and_keys_are_told_apart(tmp_path: Path) -> None:
    """Expired, not valid yet, RSA, another curve, another's key, one that would leak: a sentence each."""
    key = ec.generate_private_key(ec.SECP384R1())
    files = write_signing_files(tmp_path / "good", key)
    rsa_key = rsa.generate_private_key(65537, 2048)
    koblitz = ec.generate_private_key(ec.SECP256K1())
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    certificates = {
        "expired": issued(key.public_key(), start=NOW - timedelta(days=60)),
        "not valid yet": issued(key.public_key(), start=NOW + timedelta(days=1)),
        "certificate's key is not an elliptic-curve key": issued(rsa_key.public_key()),
        "on the curve secp256k1: expected P-256, P-384 or P-521": issued(koblitz.public_key()),
        "does not belong to the signing certificate": issued(
            ec.generate_private_key(ec.SECP384R1()).public_key()
        ),
        "is not a PEM certificate": b"nothing",
        "holds a private key too, which every copy of the image would carry": (
            files.certificate.read_bytes() + files.private_key.read_bytes()
        ),
    }
    keys = {
        "does not belong": koblitz.private_bytes(pem, pkcs8, NoEncryption()),
        "key.pem is not an elliptic-curve key": rsa_key.private_bytes(pem, pkcs8, NoEncryption()),
        "is encrypted, which is not supported": key.private_bytes(pem, pkcs8, BestAvailableEncryption(b"x")),
        "is not a PEM private key": b"nothing",
    }
    for sentence, content in certificates.items():
        (tmp_path / "certificate.pem").write_bytes(content)
        with pytest.raises(SignatureError, match=sentence):
            PemSigner.load(tmp_path / "certificate.pem", files.private_key, NOW)
    for sentence, content in keys.items():
        (tmp_path / "key.pem").write_bytes(content)
        with pytest.raises(SignatureError, match=sentence):
            PemSigner.load(files.certificate, tmp_path / "key.pem", NOW)


def test_a_key_as_openssl_writes_it_signs(tmp_path: Path) -> None:
    """The block of curve parameters that `openssl ecparam -genkey` writes before the key is passed over."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    for words in (
        f"ecparam -name secp384r1 -genkey -out {key}",
        f"req -new -x509 -key {key} -sha384 -days 2 -subj /CN=x -out {certificate}",
    ):
        subprocess.run(["openssl", *words.split()], capture_output=True, check=True)
    assert b"EC PARAMETERS" in key.read_bytes()
    PemSigner.load(certificate, key, datetime.now(UTC)).sign(bytes(48)).verify(bytes(48))
