"""Sign under the local chain, verify; then make one thing wrong at a time and see its own step refuse it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.attestation import (
    MAX_DOCUMENT,
    STEPS,
    Document,
    Expected,
    VerificationError,
    sign,
    verify,
)
from cloister.cose import Sign1, encode_cbor
from cloister.pcrs import PcrBank
from cloister.pki import issue_root
from simulators.local_chain import MODULE_ID, NOW, der, key_usage, local_chain, new_key, reissue

CHAIN = local_chain()
CREDENTIALS = CHAIN.credentials(NOW)
ROOTS = [CHAIN.root.certificate]
PCRS = PcrBank({0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48, 4: b"\x14" * 48}).locked()
EXPECTED = Expected(pcrs={0: PCRS[0], 1: PCRS[1], 2: PCRS[2]})
DOCUMENT = sign(
    CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=PCRS, user_data=b"data", nonce=b"nonce", public_key=b"key"
)
CONTENT = verify(DOCUMENT, roots=ROOTS, now=NOW, expect=EXPECTED)
ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)


def refused(step: str, document: bytes = DOCUMENT, *, now: datetime | None = NOW, **expect: Any) -> str:
    """Verify a document that must fail at the named step, and return the reason."""
    with pytest.raises(VerificationError) as caught:
        verify(document, roots=ROOTS, now=now, expect=replace(EXPECTED, **expect))
    assert (caught.value.step, caught.value.name) == (STEPS.index(step) + 1, step), caught.value
    assert str(caught.value) == f"step {caught.value.step} ({step}): {caught.value.reason}"
    return caught.value.reason


def signed(payload: bytes, protected: str = "a1013822", unprotected: dict[Any, Any] | None = None) -> bytes:
    """Sign any payload under any headers with the enclave's key."""
    genuine = Sign1.sign(payload, CREDENTIALS.key)
    envelope = replace(genuine, protected=bytes.fromhex(protected), unprotected=unprotected or {})
    return envelope.to_bytes()


def with_fields(**changes: Any) -> bytes:
    """Sign the document with some of its fields exchanged."""
    return signed(replace(CONTENT, **changes).to_bytes())


@pytest.mark.parametrize("indefinite", [True, False])
def test_a_signed_document_verifies(*, indefinite: bool) -> None:
    """What was signed comes back, in both encodings of the payload."""
    document = sign(CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=PCRS, nonce=b"n", indefinite=indefinite)
    assert document[:8].hex() == "8444a1013822a059"
    assert Sign1.from_bytes(document).payload[0] == (0xBF if indefinite else 0xA9)
    content = verify(document, roots=ROOTS, now=NOW, expect=replace(EXPECTED, nonce=b"n"))
    assert content.module_id == MODULE_ID
    assert content.pcrs == PCRS
    assert content.time == NOW
    assert (content.user_data, content.nonce, content.public_key) == (None, b"n", None)


@settings(max_examples=15)
@given(st.none() | st.binary(max_size=1024), st.none() | st.binary(max_size=1024))
def test_any_fields_survive_signing(user_data: bytes | None, nonce: bytes | None) -> None:
    """Fields of any content up to 1024 bytes are stated as they were given."""
    document = sign(CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=PCRS, user_data=user_data, nonce=nonce)
    content = verify(document, roots=ROOTS, now=NOW, expect=EXPECTED)
    assert (content.user_data, content.nonce) == (user_data, nonce)


def test_everything_that_can_be_expected_is_met() -> None:
    """A document that shows all that is expected passes."""
    expect = replace(
        EXPECTED, nonce=b"nonce", user_data=b"data", public_key=b"key", max_age=timedelta(0), any_pcrs=True
    )
    assert verify(DOCUMENT, roots=ROOTS, now=NOW, expect=expect) == CONTENT


def test_the_two_equivalent_forms_are_accepted() -> None:
    """Tag 18, and the other of the two signatures s and n - s, state the same thing."""
    envelope = Sign1.from_bytes(DOCUMENT)
    s = int.from_bytes(envelope.signature[48:], "big")
    other = replace(envelope, signature=envelope.signature[:48] + (ORDER - s).to_bytes(48, "big"))
    for form in (b"\xd2" + DOCUMENT, other.to_bytes()):
        assert verify(form, roots=ROOTS, now=NOW, expect=EXPECTED) == CONTENT


@pytest.mark.parametrize(
    ("expect", "now"),
    [
        ({"pcrs": None}, NOW),
        ({"pcrs": {}}, NOW),
        ({"pcrs": {32: bytes(48)}}, NOW),
        ({"pcrs": {0: bytes(47)}}, NOW),
        ({"pcrs": {0: b""}}, NOW),
        ({"pcrs": {0: bytes(96)}}, NOW),
        ({"pcrs": None, "nitrotpm_pcrs": {24: bytes(48)}}, NOW),
        ({"nitrotpm_pcrs": {0: bytes(48)}}, NOW),
        ({"max_age": timedelta(seconds=-1)}, NOW),
        ({"max_age": timedelta(seconds=60)}, None),
        ({}, datetime(2025, 2, 3, 12, 0, 0)),  # noqa: DTZ001  # the claim is about a naive time
    ],
)  # fmt: skip
def test_expectations_that_cannot_be_held_are_refused(expect: dict[str, Any], now: datetime | None) -> None:
    """No expectation, or an impossible one, is a mistake of the caller and never passes."""
    refused("expectations", now=now, **expect)


@pytest.mark.parametrize("document", [b"", bytes(MAX_DOCUMENT + 1)])
def test_size_is_bounded_before_parsing(document: bytes) -> None:
    """A document has 1 to 16384 bytes."""
    refused("size", document)


@pytest.mark.parametrize(
    "document",
    [b"\x00", DOCUMENT[:-1], DOCUMENT + b"\x00", b"\xd2\xd2" + DOCUMENT, b"\x81" * 16384, b"\x9f" * 16384],
    ids=["number", "truncated", "trailing byte", "tagged twice", "depth bomb", "indefinite bomb"],
)
def test_another_envelope_is_refused(document: bytes) -> None:
    """Only a COSE_Sign1 is opened."""
    refused("envelope", document)


@pytest.mark.parametrize(
    ("protected", "unprotected"),
    [
        ("a10126", {}),
        ("a1013823", {}),
        ("a0", {}),
        ("", {}),
        ("a201382203f6", {}),
        ("bf013822ff", {}),
        ("a101390022", {}),
        ("a1013822", {1: -35}),
        ("a1013822", {4: b"key"}),
    ],
)  # fmt: skip
def test_other_headers_are_refused(protected: str, unprotected: dict[Any, Any]) -> None:
    """The protected header is exactly ES384, and nothing stands outside the signature."""
    refused("header", signed(CONTENT.to_bytes(), protected, unprotected))


def test_a_payload_that_is_no_document_is_refused() -> None:
    """A signature over something else does not help."""
    refused("payload", signed(b""))
    refused("payload", signed(encode_cbor([])))
    refused("fields", signed(encode_cbor({})))
    refused("fields", with_fields(pcrs={0: bytes(32)}))


def test_a_changed_document_is_refused() -> None:
    """Changing any signed byte ends at the signature at the latest."""
    envelope = Sign1.from_bytes(DOCUMENT)
    changed = replace(envelope, payload=replace(CONTENT, user_data=b"lie!").to_bytes())
    assert "does not match" in refused("signature", changed.to_bytes())
    der_signature = replace(envelope, signature=CREDENTIALS.key.sign(b"", _ecdsa()))
    assert "96 bytes" in refused("signature", der_signature.to_bytes())


def _ecdsa() -> ec.ECDSA:
    from cryptography.hazmat.primitives import hashes

    return ec.ECDSA(hashes.SHA384())


def test_no_flipped_bit_passes() -> None:
    """Every byte of a document is covered by some step."""
    for position in range(0, len(DOCUMENT), 41):
        changed = bytearray(DOCUMENT)
        changed[position] ^= 0x01
        with pytest.raises(VerificationError):
            verify(bytes(changed), roots=ROOTS, now=NOW, expect=EXPECTED)


def test_the_signer_must_be_the_certified_one() -> None:
    """A document signed by another key than its certificate's is refused."""
    forged = Sign1.sign(CONTENT.to_bytes(), new_key()).to_bytes()
    refused("signature", forged)


def test_a_foreign_root_is_refused() -> None:
    """A whole foreign chain with the same names is refused at the root, and so is a bundle without it."""
    key = new_key()
    stranger = der(issue_root(key, serial=1, now=NOW))
    refused("root", with_fields(cabundle=(stranger, *CONTENT.cabundle[1:])))
    refused("root", with_fields(cabundle=CONTENT.cabundle[::-1]))
    with pytest.raises(VerificationError) as caught:
        verify(DOCUMENT, roots=[], now=NOW, expect=EXPECTED)
    assert caught.value.name == "root"


def test_a_wrong_chain_is_refused_at_its_own_step() -> None:
    """The chain's checks are steps of the verification, under the same names."""
    refused("order", with_fields(cabundle=(CONTENT.cabundle[0], *CONTENT.cabundle[2:])))
    refused("certificates", with_fields(certificate=b"none"))
    leaf = x509.load_der_x509_certificate(CONTENT.certificate)
    no_usage = [(x509.BasicConstraints(ca=False, path_length=None), True), (key_usage("crl_sign"), False)]
    refused("leaf", with_fields(certificate=der(reissue(leaf, CHAIN.instance.key, extensions=no_usage))))
    refused("chain signatures", with_fields(certificate=der(reissue(leaf, new_key()))))


def test_certificates_are_judged_at_the_given_time() -> None:
    """One second after the leaf's end, or before its beginning, the document is refused."""
    leaf = x509.load_der_x509_certificate(CONTENT.certificate)
    second = timedelta(seconds=1)
    refused("validity", now=leaf.not_valid_after_utc + second)
    refused("validity", now=leaf.not_valid_before_utc - second)
    verify(DOCUMENT, roots=ROOTS, now=leaf.not_valid_after_utc, expect=EXPECTED)
    verify(DOCUMENT, roots=ROOTS, now=leaf.not_valid_before_utc, expect=EXPECTED)
    verify(DOCUMENT, roots=ROOTS, now=None, expect=EXPECTED)


def test_time_zones_do_not_matter() -> None:
    """The same moment in another zone gives the same answer."""
    there = NOW.astimezone(timezone(timedelta(hours=9)))
    expect = replace(EXPECTED, max_age=timedelta(seconds=1))
    assert verify(DOCUMENT, roots=ROOTS, now=there, expect=expect) == CONTENT


def test_the_document_time_must_be_its_signers() -> None:
    """A document dated outside the life of its certificate is refused."""
    hours = 3_600_000
    assert "life of the certificate" in refused("timestamp", with_fields(timestamp=CONTENT.timestamp - hours))
    assert "life of the certificate" in refused(
        "timestamp", with_fields(timestamp=CONTENT.timestamp + 4 * hours)
    )


def test_age_is_bounded_on_both_sides() -> None:
    """A document further from now than allowed is refused, be it old or early; the bound itself passes."""
    minute = timedelta(minutes=1)
    expect = replace(EXPECTED, max_age=minute)
    for now in (NOW + minute, NOW - timedelta(seconds=3)):
        verify(DOCUMENT, roots=ROOTS, now=now, expect=expect)
    assert "old" in refused("age", now=NOW + minute + timedelta(milliseconds=1), max_age=minute)
    early = with_fields(timestamp=CONTENT.timestamp + 60_001)
    assert "in the future" in refused("age", early, max_age=minute)


def test_no_age_allows_a_document_from_far_ahead() -> None:
    """Where age matters a document lies at most 5 minutes ahead; else only its leaf's life counts."""
    hour = timedelta(hours=1)
    within, beyond = (with_fields(timestamp=CONTENT.timestamp + ms) for ms in (300_000, 300_001))
    verify(within, roots=ROOTS, now=NOW, expect=replace(EXPECTED, max_age=hour))
    assert "in the future" in refused("age", beyond, max_age=hour)
    verify(beyond, roots=ROOTS, now=NOW, expect=EXPECTED)


@pytest.mark.parametrize("bank", [{0: bytes(48), 1: bytes(48), 2: bytes(48), 4: PCRS[4]}, {4: PCRS[4]}])
def test_debug_documents_need_permission(bank: dict[int, bytes]) -> None:
    """Zero PCR0 to PCR2 are refused even when they are expected, unless debug is allowed."""
    document = with_fields(pcrs=bank)
    refused("debug", document, pcrs={4: PCRS[4]})
    refused("debug", document, pcrs=None, any_pcrs=True)
    refused("debug", document, pcrs={0: bytes(48)})
    expect = Expected(pcrs={4: PCRS[4]}, allow_debug=True)
    assert verify(document, roots=ROOTS, now=NOW, expect=expect).debug


def test_expected_registers_must_be_shown_and_equal() -> None:
    """A differing register and a missing one are both refused, and the text shows both values."""
    reason = refused("pcrs", pcrs={0: PCRS[0], 4: b"\x15" * 48})
    assert reason == f"PCR4 is {'14' * 48}, not {'15' * 48}"
    assert "does not show it" in refused("pcrs", pcrs={0: PCRS[0], 16: bytes(48)})
    refused("pcrs", pcrs={3: b"\x01" * 48}, any_pcrs=True)


def test_platforms_are_not_confused() -> None:
    """Registers of a NitroTPM never pass for an enclave's, nor the other way round."""
    tpm = signed(replace(CONTENT, nitrotpm=True, pcrs={0: PCRS[0], 8: bytes(48)}).to_bytes())
    refused("pcrs", tpm, pcrs={0: PCRS[0]})
    refused("pcrs", pcrs=None, nitrotpm_pcrs={0: PCRS[0]})
    for expect in (Expected(nitrotpm_pcrs={0: PCRS[0]}), Expected(any_pcrs=True)):
        content = verify(tpm, roots=ROOTS, now=NOW, expect=expect)
        assert content.nitrotpm
    refused("pcrs", tpm, pcrs=None, nitrotpm_pcrs={0: PCRS[1]})


@pytest.mark.parametrize("name", ["nonce", "user_data", "public_key"])
def test_expected_fields_must_be_equal(name: str) -> None:
    """A differing, an empty and an absent field are not the expected one."""
    other: dict[str, Any] = {name: b"x"}
    assert "not 78" in refused(name, **other)
    assert "is an empty one" in refused(name, with_fields(**{name: b""}), **other)
    assert "is none" in refused(name, with_fields(**{name: None}), **other)


def test_a_long_field_is_shown_shortened() -> None:
    """The reason stays one readable sentence."""
    assert "... (40 bytes)" in refused("nonce", nonce=bytes(40))


def test_the_answer_is_immutable() -> None:
    """What was verified cannot be changed afterwards."""
    with pytest.raises(AttributeError):
        CONTENT.nonce = b"other"  # type: ignore[misc]  # the claim
    assert isinstance(CONTENT, Document)
    assert CONTENT.time.tzinfo is UTC


def test_steps_have_distinct_names() -> None:
    """A step's name says its number."""
    assert len(set(STEPS)) == len(STEPS)
