"""The envelope KMS answers with: byte for byte AWS's, readable by others, hostile bytes refused."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from asn1crypto import cms as asn1_cms
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from cloister.cms import MAX_ENVELOPE, EnvelopeError, open_envelope, seal

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=3072)
CEK, IV = bytes(range(32)), bytes(range(100, 116))


def spki_of(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def sealed(plaintext: bytes, key: rsa.RSAPrivateKey = KEY, *, constructed: bool = True) -> bytes:
    return seal(plaintext, key.public_key(), spki=spki_of(key), key=CEK, iv=IV, constructed=constructed)


def skeleton(blob: bytes, ciphertext_size: int) -> bytes:
    """Blank the four variable parts of an RSA-2048 envelope: identifier, wrapped key, IV and ciphertext."""
    masked = bytearray(blob)
    for start, size in ((33, 32), (131, 256), (415, 16)):
        masked[start : start + size] = bytes(size)
    position, left = 433, ciphertext_size
    if blob[431] == 0x80:
        masked[433 : 433 + ciphertext_size] = bytes(ciphertext_size)
        return bytes(masked)
    while left:
        size = min(1000, left)
        header = 2 if size < 0x80 else 3 if size < 0x100 else 4
        masked[position + header : position + header + size] = bytes(size)
        position, left = position + header + size, left - size
    return bytes(masked)


@pytest.mark.parametrize(
    ("name", "plaintext_size", "constructed"),
    [
        ("sdkc_input_ber.ber", 32, True),
        ("sdkc_input_ber_w_ctx.ber", 15, False),
        ("rustcrypto_kms_ciphertext_for_recipient_4.ber", 4096, True),
    ],
)
def test_skeleton_is_awss(shared_vectors: Path, name: str, plaintext_size: int, constructed: bool) -> None:
    """All but identifier, wrapped key, IV and ciphertext equals genuine answers of KMS byte for byte."""
    genuine = (shared_vectors / "kms-cms" / name).read_bytes()
    ours = sealed(bytes(plaintext_size), constructed=constructed)
    size = (plaintext_size // 16 + 1) * 16
    assert skeleton(ours, size) == skeleton(genuine, size)


@pytest.mark.parametrize(("plaintext", "total"), [(15, 461), (28, 477), (32, 493), (4096, 4573)])
def test_sizes_are_awss(plaintext: int, total: int) -> None:
    """The envelope of a secret has the length that AWS's clients log for it."""
    assert len(sealed(bytes(plaintext))) == total


@pytest.mark.parametrize("constructed", [True, False])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 999, 1000, 4096])
def test_open_inverts_seal(size: int, constructed: bool) -> None:
    """What was sealed comes out again, in both content forms, with every number of segments."""
    secret = hashlib.shake_128(b"secret").digest(size)
    assert open_envelope(sealed(secret, constructed=constructed), KEY) == secret


def test_open_reads_definite_lengths() -> None:
    """The same structure in DER, as other emitters write it, opens too."""
    der = asn1_cms.ContentInfo.load(sealed(b"in DER")).dump(force=True)
    assert b"\x30\x80" not in der[:4]
    assert open_envelope(der, KEY) == b"in DER"


def test_asn1crypto_reads_it() -> None:
    """An independent parser finds the key identifier, the algorithms and the joined ciphertext."""
    content = asn1_cms.ContentInfo.load(sealed(bytes(2500)))["content"]
    recipient = content["recipient_infos"][0].chosen
    assert recipient["rid"].chosen.native == hashlib.sha256(spki_of(KEY)).digest()
    algorithm = recipient["key_encryption_algorithm"]
    assert algorithm["algorithm"].native == "rsaes_oaep"
    assert algorithm["parameters"]["hash_algorithm"]["algorithm"].native == "sha256"
    info = content["encrypted_content_info"]
    assert info["content_encryption_algorithm"]["algorithm"].native == "aes256_cbc"
    assert len(info["encrypted_content"].native) == 2512


def test_openssl_opens_it(tmp_path: Path) -> None:
    """``openssl cms -decrypt`` recovers the secret with the private key alone."""
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    answer = subprocess.run(
        ["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", str(tmp_path / "key.pem")],
        input=sealed(bytes(range(256)) * 10),
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert answer.stdout == bytes(range(256)) * 10


def test_another_key_does_not_open_it() -> None:
    """An envelope for somebody else says so in one sentence."""
    with pytest.raises(EnvelopeError, match="does not open with this key"):
        open_envelope(sealed(b"x"), OTHER)


def test_larger_keys_work() -> None:
    """A recipient with a 3072-bit key gets an envelope of its own size."""
    assert open_envelope(sealed(b"x", OTHER), OTHER) == b"x"


def test_every_truncation_is_refused() -> None:
    """No prefix of an envelope opens."""
    blob = sealed(b"secret")
    for size in range(len(blob)):
        with pytest.raises(EnvelopeError):
            open_envelope(blob[:size], KEY)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        bytes(MAX_ENVELOPE + 1),
        b"\x30\x80" * 3000,
        b"\x30\x80" + b"\x00" * 4,
        b"\x02\x80\x00\x00",
        b"\x30\x84" + b"\xff" * 4,
    ],
    ids=["empty", "oversized", "nested", "trailing", "primitive-indefinite", "huge-length"],
)
def test_hostile_bytes_are_refused(blob: bytes) -> None:
    """Depth, lengths and sizes are bounded; the answer is always an EnvelopeError."""
    with pytest.raises(EnvelopeError):
        open_envelope(blob, KEY)


@given(position=st.integers(0, 460), value=st.integers(1, 255))
def test_altered_structure_never_crashes(position: int, value: int) -> None:
    """A changed byte gives an EnvelopeError, or bytes, never another exception."""
    blob = bytearray(ALTERABLE)
    blob[position] ^= value
    try:
        open_envelope(bytes(blob), KEY)
    except EnvelopeError:
        return


ALTERABLE = sealed(b"fifteen bytes..")


def test_wrong_key_sizes_are_refused() -> None:
    """A short content key never seals anything."""
    with pytest.raises(EnvelopeError, match="31"):
        seal(b"x", KEY.public_key(), spki=spki_of(KEY), key=bytes(31), iv=IV)
