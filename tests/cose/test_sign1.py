"""COSE_Sign1: what is signed verifies, and each way of being wrong is told apart."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.cose import CoseError, Sign1, encode_cbor

P384 = ec.generate_private_key(ec.SECP384R1())
SIGNED = Sign1.sign(b"payload", P384)


@pytest.mark.parametrize(
    ("curve", "protected", "size"),
    [
        (ec.SECP256R1(), "a10126", 64),
        (ec.SECP384R1(), "a1013822", 96),
        (ec.SECP521R1(), "a1013823", 132),
    ],
)
def test_each_curve_has_its_algorithm(curve: ec.EllipticCurve, protected: str, size: int) -> None:
    """P-256, P-384 and P-521 keys sign with ES256, ES384 and ES512, as r || s."""
    key = ec.generate_private_key(curve)
    signed = Sign1.sign(b"payload", key)
    assert signed.protected.hex() == protected
    assert len(signed.signature) == size
    signed.verify(key.public_key())


@pytest.mark.parametrize(
    "curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name
)
def test_a_deterministic_signature_is_the_same_each_time(curve: ec.EllipticCurve) -> None:
    """One key and payload give one signature, another payload another; by default all differ."""
    key = ec.generate_private_key(curve)
    one, two = (Sign1.sign(b"payload", key, deterministic=True) for _ in range(2))
    assert one == two
    one.verify(key.public_key())
    assert Sign1.sign(b"Payload", key, deterministic=True).signature[:32] != one.signature[:32]
    assert Sign1.sign(b"payload", key) != Sign1.sign(b"payload", key)


@settings(max_examples=20)
@given(st.binary(max_size=100))
def test_an_envelope_survives_its_bytes(payload: bytes) -> None:
    """Reading is the inverse of writing, with the tag or without, and the signature still holds."""
    signed = Sign1.sign(payload, P384)
    data = signed.to_bytes()
    assert data[:1] == b"\x84"
    assert Sign1.from_bytes(data) == signed
    assert Sign1.from_bytes(b"\xd2" + data) == signed
    Sign1.from_bytes(data).verify(P384.public_key())


@pytest.mark.parametrize(
    "changed",
    [
        Sign1(SIGNED.protected, {}, b"Payload", SIGNED.signature),
        Sign1(SIGNED.protected, {}, b"payload", SIGNED.signature[48:] + SIGNED.signature[:48]),
        Sign1(SIGNED.protected, {}, b"payload", bytes(96)),
        Sign1(SIGNED.protected, {}, b"payload", b"\xff" * 96),
    ],
    ids=["payload", "r and s exchanged", "zero signature", "signature above the order"],
)
def test_a_changed_statement_does_not_verify(changed: Sign1) -> None:
    """The signature covers the payload, and degenerate signatures are refused."""
    with pytest.raises(CoseError, match="does not match"):
        changed.verify(P384.public_key())


def test_another_key_does_not_verify() -> None:
    """A signature belongs to one key."""
    with pytest.raises(CoseError, match="does not match"):
        SIGNED.verify(ec.generate_private_key(ec.SECP384R1()).public_key())


def test_an_algorithm_is_bound_to_its_curve() -> None:
    """An ES384 envelope is not checked with a P-256 key."""
    with pytest.raises(CoseError, match="not for a secp256r1 key"):
        SIGNED.verify(ec.generate_private_key(ec.SECP256R1()).public_key())


def test_a_curve_without_algorithm_cannot_sign() -> None:
    """secp256k1 has no place here."""
    with pytest.raises(CoseError, match="secp256k1"):
        Sign1.sign(b"", ec.generate_private_key(ec.SECP256K1()))


@pytest.mark.parametrize("size", [0, 95, 97, 104])
def test_a_signature_of_another_size_is_refused(size: int) -> None:
    """Only r || s of the curve's size is a signature; DER (about 104 bytes) is not."""
    with pytest.raises(CoseError, match="96 bytes"):
        Sign1(SIGNED.protected, {}, b"payload", bytes(size)).verify(P384.public_key())


@pytest.mark.parametrize(
    "protected",
    [
        "",
        "a0",
        "80",
        "f6",
        "a10101",
        "a1013822ff",
        "a1016545533338",
        "a201382204413100",
        "a101f5",
        "a10180",
        "a1183822",
    ],
)
def test_a_header_with_anything_but_one_known_algorithm_is_refused(protected: str) -> None:
    """The protected header holds the algorithm's number and nothing else."""
    with pytest.raises(CoseError, match="header"):
        Sign1(bytes.fromhex(protected), {}, b"", bytes(96)).verify(P384.public_key())


ENVELOPES = {
    "empty": b"",
    "not an array": encode_cbor({}),
    "three parts": encode_cbor([b"", {}, b""]),
    "five parts": encode_cbor([b"", {}, b"", b"", b""]),
    "protected as map": encode_cbor([{1: -35}, {}, b"", b""]),
    "unprotected as bytes": encode_cbor([b"", b"", b"", b""]),
    "detached payload": encode_cbor([b"", {}, None, b""]),
    "text signature": encode_cbor([b"", {}, b"", ""]),
    "trailing byte": SIGNED.to_bytes() + b"\x00",
    "tag 17": b"\xd1" + SIGNED.to_bytes(),
    "tag 18 in two bytes": b"\xd8\x12" + SIGNED.to_bytes(),
    "tag 18 twice": b"\xd2\xd2" + SIGNED.to_bytes(),
    "CWT tag around": b"\xd8\x3d\xd2" + SIGNED.to_bytes(),
    "tag alone": b"\xd2",
    "indefinite array": b"\x9f" + SIGNED.to_bytes()[1:] + b"\xff",
}


@pytest.mark.parametrize("data", ENVELOPES.values(), ids=ENVELOPES)
def test_another_envelope_is_refused(data: bytes) -> None:
    """Only the array of four is read, bare or under one tag 18."""
    with pytest.raises(CoseError):
        Sign1.from_bytes(data)
