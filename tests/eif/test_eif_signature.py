"""The signature section: AWS's bytes, any of three curves, and each way it can be wrong."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cloister.cose import Sign1, encode_cbor
from cloister.eif import (
    CertificateExpiredError,
    PayloadMismatchError,
    SignatureError,
    SignatureSection,
    sign_pcr0,
)
from simulators.signing_keys import self_signed

PCR0 = bytes(range(48))
NOW = datetime.now(UTC)


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, days: int = 30) -> bytes:
    return self_signed(key, days=days).public_bytes(Encoding.PEM)


KEY = ec.generate_private_key(ec.SECP256R1())
SECTION = sign_pcr0(PCR0, pem_of(KEY), KEY)


def test_encoding_is_the_vectors(shared_vectors: Path) -> None:
    """The section and the signed payload have exactly the bytes of AWS's image-format."""
    vectors = json.loads((shared_vectors / "nsm-and-eif-vectors.json").read_text())["eif_signature_cbor"]
    (info,) = [value for name, value in vectors.items() if name.startswith("pcr_info")]
    (section,) = [value for name, value in vectors.items() if name.startswith("section")]
    pem = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    ours = SignatureSection(pem, bytes.fromhex("d28444a1013822a04040"))
    assert ours.to_bytes().hex() == section
    assert SignatureSection.from_bytes(bytes.fromhex(section)) == ours
    key = ec.generate_private_key(ec.SECP384R1())
    assert Sign1.from_bytes(sign_pcr0(PCR0, pem_of(key), key).cose).payload.hex() == info


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_section_round_trip(pem: bytes, cose: bytes) -> None:
    """The section's encoding and decoding are inverses."""
    section = SignatureSection(pem, cose)
    assert SignatureSection.from_bytes(section.to_bytes()) == section


@given(st.binary(max_size=300), st.integers(0, 600), st.integers(1, 255))
def test_no_bytes_do_more_than_be_refused(noise: bytes, position: int, flip: int) -> None:
    """Noise for section, certificate or envelope, and any one byte changed, end in one kind of error."""
    changed = bytearray(SECTION.to_bytes())
    changed[position] ^= flip
    genuine = bytes(changed)
    for attempt in (
        lambda: SignatureSection.from_bytes(noise),
        lambda: SignatureSection(noise, SECTION.cose).verify(PCR0, NOW),
        lambda: SignatureSection(SECTION.certificate_pem, noise).verify(PCR0, NOW),
        lambda: SignatureSection.from_bytes(genuine + noise[:1]).verify(bytes(48), NOW),
    ):
        with pytest.raises(SignatureError):
            attempt()


@pytest.mark.parametrize(
    ("curve", "protected"),
    [(ec.SECP256R1(), "a10126"), (ec.SECP384R1(), "a1013822"), (ec.SECP521R1(), "a1013823")],
    ids=["P-256", "P-384", "P-521"],
)
def test_each_curve_signs_with_its_algorithm(curve: ec.EllipticCurve, protected: str) -> None:
    """P-256, P-384 and P-521 keys make ES256, ES384 and ES512, untagged, and verify."""
    key = ec.generate_private_key(curve)
    section = sign_pcr0(PCR0, pem_of(key), key)
    section.verify(PCR0, NOW)
    assert section.cose[0] == 0x84
    assert Sign1.from_bytes(section.cose).protected.hex() == protected


def test_wrong_signatures_are_refused() -> None:
    """Another image, another key, a flipped bit and a passed date are four different sentences."""
    key, stranger = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    section = sign_pcr0(PCR0, pem_of(key), key)
    with pytest.raises(PayloadMismatchError, match="for another image"):
        section.verify(bytes(48), NOW)
    with pytest.raises(SignatureError, match="signature is not valid"):
        SignatureSection(pem_of(stranger), section.cose).verify(PCR0, NOW)
    flipped = section.cose[:-1] + bytes([section.cose[-1] ^ 1])
    with pytest.raises(SignatureError, match="signature is not valid"):
        SignatureSection(section.certificate_pem, flipped).verify(PCR0, NOW)
    for days, state in ((-2, "not valid yet"), (31, "expired")):
        with pytest.raises(CertificateExpiredError, match=f"The signing certificate is {state}: it is valid"):
            section.verify(PCR0, NOW + timedelta(days=days))


def test_unfit_keys_are_refused() -> None:
    """A foreign key, an RSA certificate and something that is no certificate cannot sign."""
    key, stranger = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SignatureError, match="does not belong"):
        sign_pcr0(PCR0, pem_of(key), stranger)
    with pytest.raises(SignatureError, match="not an elliptic-curve key"):
        sign_pcr0(PCR0, pem_of(rsa.generate_private_key(65537, 2048)), key)
    with pytest.raises(SignatureError, match="not a PEM certificate"):
        sign_pcr0(PCR0, b"nothing", key)


@pytest.mark.parametrize(
    "value",
    [
        [],
        [{}, {}],
        [{"signing_certificate": b"bytes", "signature": []}],
        [{"signing_certificate": [256], "signature": []}],
        [{"signing_certificate": [True], "signature": []}],
        [{"signing_certificate": [], "signature": [], "more": 1}],
        {"signature": []},
    ],
)
def test_other_shapes_are_refused(value: object) -> None:
    """Byte strings, extra keys, more signatures than one: not what AWS's reader accepts, nor ours."""
    with pytest.raises(SignatureError, match="signature section"):
        SignatureSection.from_bytes(encode_cbor(value))


def test_damaged_certificates_are_refused() -> None:
    """A certificate with any one byte changed either still reads or is refused; nothing else happens."""
    key = ec.generate_private_key(ec.SECP256R1())
    der = self_signed(key).public_bytes(Encoding.DER)
    cose = sign_pcr0(PCR0, pem_of(key), key).cose
    refused = 0
    for position in range(len(der)):
        damaged = der[:position] + bytes([der[position] ^ 1]) + der[position + 1 :]
        body = base64.encodebytes(damaged)
        pem = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
        try:
            SignatureSection(pem, cose).verify(PCR0, NOW)
        except SignatureError:
            refused += 1
    assert refused > len(der) // 4
