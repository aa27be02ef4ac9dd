"""The bytes of a document that nothing signs have one form each, but for the two equivalent forms."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cloister.attestation import Expected, VerificationError, sign, verify
from cloister.cose import Sign1
from simulators.local_chain import MODULE_ID, NOW, local_chain

CHAIN = local_chain()
PCRS = {0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48}
DOCUMENT = sign(CHAIN.credentials(NOW), module_id=MODULE_ID, now=NOW, pcrs=PCRS)
ENVELOPE = Sign1.from_bytes(DOCUMENT)
PAYLOAD = ENVELOPE.payload
R, S = (int.from_bytes(ENVELOPE.signature[at : at + 48], "big") for at in (0, 48))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
ARRAY, PROTECTED, UNPROTECTED = b"\x84", b"\x44\xa1\x01\x38\x22", b"\xa0"
SIZED_PAYLOAD = b"\x59" + len(PAYLOAD).to_bytes(2, "big") + PAYLOAD
SIGNATURE = b"\x58\x60" + ENVELOPE.signature


def answer(document: bytes) -> str:
    """Return the step that refuses a document, or that none does."""
    try:
        verify(document, roots=[CHAIN.root.certificate], now=NOW, expect=Expected(pcrs=PCRS))
    except VerificationError as error:
        return error.name
    return "accepted"


def halves(r: int, s: int) -> bytes:
    """Write a signature as COSE does."""
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


@pytest.mark.parametrize(
    "signature",
    [
        halves(0, 0),
        halves(0, S),
        halves(R, 0),
        halves(ORDER, S),
        halves(R, ORDER),
        halves(R, 2**384 - 1),
        halves(ORDER - R, S),
        halves(S, R),
        halves(1, 1),
        ENVELOPE.signature[:-1],
        ENVELOPE.signature + b"\x00",
        b"\x00" + ENVELOPE.signature[:48] + b"\x00" + ENVELOPE.signature[48:],
        b"",
        encode_dss_signature(R, S),
        encode_dss_signature(R, S)[:96],
    ],
    ids=[
        "zeros", "r is 0", "s is 0", "r is n", "s is n", "s beyond n", "n - r", "swapped", "ones",
        "95 bytes", "97 bytes", "98 bytes", "empty", "DER", "DER cut to 96 bytes",
    ],
)  # fmt: skip
def test_no_other_signature_passes(signature: bytes) -> None:
    """A signature is 96 bytes: r and s, each from 1 to n - 1."""
    assert answer(replace(ENVELOPE, signature=signature).to_bytes()) == "signature"


def test_the_two_equivalent_forms_and_no_third() -> None:
    """Tag 18 or none, s or n - s: one statement in four spellings, all of which pass."""
    twin = replace(ENVELOPE, signature=halves(R, ORDER - S)).to_bytes()
    for form in (DOCUMENT, twin):
        assert answer(form) == answer(b"\xd2" + form) == "accepted"
    for tag in (b"\xd8\x12", b"\xd9\x00\x12", b"\xd1", b"\xd3", b"\xd9\xd9\xf7", b"\xd2\xd2"):
        assert answer(tag + DOCUMENT) == "envelope"


@pytest.mark.parametrize(
    ("step", "document"),
    [
        ("accepted", ARRAY + PROTECTED + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("envelope", b"\x98\x04" + PROTECTED + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("envelope", b"\x9f" + PROTECTED + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE + b"\xff"),
        ("envelope", b"\x85" + PROTECTED + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE + b"\xf6"),
        ("envelope", ARRAY + b"\x58\x04" + PROTECTED[1:] + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("envelope", ARRAY + b"\x5f" + PROTECTED + b"\xff" + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("envelope", ARRAY + PROTECTED[1:] + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("envelope", ARRAY + PROTECTED + b"\xb8\x00" + SIZED_PAYLOAD + SIGNATURE),
        ("envelope", ARRAY + PROTECTED + b"\x40" + SIZED_PAYLOAD + SIGNATURE),
        ("envelope", ARRAY + PROTECTED + b"\xf6" + SIZED_PAYLOAD + SIGNATURE),
        ("header", ARRAY + PROTECTED + b"\xbf\xff" + SIZED_PAYLOAD + SIGNATURE),
        ("header", ARRAY + PROTECTED + b"\xa1\x04\x41k" + SIZED_PAYLOAD + SIGNATURE),
        ("header", ARRAY + PROTECTED + b"\xa1\x01\x38\x22" + SIZED_PAYLOAD + SIGNATURE),
        ("header", ARRAY + b"\x44\xa1\x01\x38\x23" + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("header", ARRAY + b"\x45\xbf\x01\x38\x22\xff" + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("header", ARRAY + b"\x45\xa1\x18\x01\x38\x22" + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("header", ARRAY + b"\x45\xa1\x01\x39\x00\x22" + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("header", ARRAY + b"\x46\xa2\x01\x38\x22\x04\x40" + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE),
        ("envelope", ARRAY + PROTECTED + UNPROTECTED + b"\x5a\x00\x00" + SIZED_PAYLOAD[1:] + SIGNATURE),
        ("envelope", ARRAY + PROTECTED + UNPROTECTED + b"\x5f" + SIZED_PAYLOAD + b"\xff" + SIGNATURE),
        ("envelope", ARRAY + PROTECTED + UNPROTECTED + b"\xf6" + SIGNATURE),
        ("envelope", ARRAY + PROTECTED + UNPROTECTED + SIZED_PAYLOAD + b"\x59\x00" + SIGNATURE[1:]),
        ("envelope", ARRAY + PROTECTED + UNPROTECTED + SIZED_PAYLOAD + b"\x78\x60" + SIGNATURE[2:]),
        ("envelope", ARRAY + PROTECTED + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE + b"\x00"),
        ("envelope", ARRAY + PROTECTED + UNPROTECTED + SIZED_PAYLOAD + SIGNATURE[:-1]),
    ],
    ids=[
        "as written", "count in two bytes", "indefinite array", "five parts",
        "protected length in two bytes", "protected in chunks", "protected map not wrapped",
        "unprotected count in two bytes", "unprotected bytes", "unprotected null",
        "unprotected indefinite", "unprotected key id", "algorithm repeated outside",
        "ES512", "protected indefinite", "label in two bytes", "algorithm in three bytes", "key id",
        "payload length in five bytes", "payload in chunks", "payload detached",
        "signature length in three bytes", "signature as text", "trailing byte", "a byte short",
    ],
)  # fmt: skip
def test_every_unsigned_byte_has_one_form(step: str, document: bytes) -> None:
    """Longer numbers, indefinite forms and headers that AWS does not write are refused."""
    assert answer(document) == step


def test_something_else_than_bytes_is_refused() -> None:
    """What is no document at all, or is one in text, gets the verifier's own error."""
    for thing in (None, 7, DOCUMENT.hex(), bytearray(DOCUMENT), [DOCUMENT]):
        assert answer(thing) == "size"  # type: ignore[arg-type]  # the claim
