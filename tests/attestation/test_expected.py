"""What a verifier must say beforehand: nothing, next to nothing, or something impossible never passes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from cryptography import x509

from cloister.attestation import (
    CertificateCache,
    Document,
    Expected,
    Revocation,
    RootsError,
    VerificationError,
    load_roots,
    sign,
    verify,
)
from cloister.cose import Sign1, encode_cbor
from cloister.pcrs import PcrBank, measure_bytes
from simulators.local_chain import MODULE_ID, NOW, der, local_chain

CHAIN = local_chain()
CREDENTIALS = CHAIN.credentials(NOW)
ROOTS = [CHAIN.root.certificate]
SIGNER = x509.load_der_x509_certificate(CREDENTIALS.certificate)  # any certificate can have signed an image
OTHER_SIGNER = CHAIN.instance.certificate
PCRS = PcrBank({0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48, 8: measure_bytes(der(SIGNER))}).locked()
DOCUMENT = sign(
    CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=PCRS, user_data=b"data", nonce=b"nonce", public_key=b"key"
)
IMAGE = {index: PCRS[index] for index in range(3)}


def passes(expect: Expected, document: bytes = DOCUMENT) -> Document:
    """Verify a document that must pass."""
    return verify(document, roots=ROOTS, now=NOW, expect=expect)


def refused(step: str, expect: Expected, document: bytes = DOCUMENT, now: datetime | None = NOW) -> str:
    """Verify a document that must fail at the named step, and return the reason."""
    with pytest.raises(VerificationError) as caught:
        verify(document, roots=ROOTS, now=now, expect=expect)
    assert caught.value.name == step, caught.value
    return caught.value.reason


def signed(payload: bytes) -> bytes:
    """Sign any payload with the enclave's key."""
    return Sign1.sign(payload, CREDENTIALS.key).to_bytes()


def test_an_expected_signer_is_enough() -> None:
    """PCR8 of the certificate that signed the image is a register to expect, alone or with others."""
    content = passes(Expected(signer=SIGNER))
    assert passes(Expected(signer=SIGNER, pcrs=IMAGE)) == content
    assert passes(Expected(signer=SIGNER, pcrs=IMAGE | {8: PCRS[8]})) == content


def test_another_signer_an_unsigned_image_and_a_debug_enclave_are_refused() -> None:
    """A PCR8 of another certificate, of zeros, or that is not shown, is not the expected one."""
    expect = Expected(signer=OTHER_SIGNER)
    assert refused("pcrs", expect).startswith("PCR8 is ")
    for pcrs in (PCRS | {8: bytes(48)}, IMAGE):
        document = sign(CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=pcrs)
        refused("pcrs", Expected(signer=SIGNER), document)
        refused("pcrs", Expected(signer=SIGNER, any_pcrs=True), document)
    debug = sign(CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=PcrBank().locked())
    refused("debug", Expected(signer=SIGNER), debug)
    refused("pcrs", Expected(signer=SIGNER, allow_debug=True), debug)


def test_a_nitrotpm_never_stands_for_a_signed_image() -> None:
    """Software on a NitroTPM machine can extend PCR8 to any value, so it says nothing about a signer."""
    tpm = signed(replace(passes(Expected(pcrs=IMAGE)), nitrotpm=True, pcrs={8: PCRS[8]}).to_bytes())
    refused("pcrs", Expected(signer=SIGNER), tpm)
    passes(Expected(nitrotpm_pcrs={8: PCRS[8]}), tpm)


@pytest.mark.parametrize(
    "expect",
    [
        {},
        {"pcrs": {}},
        {"nitrotpm_pcrs": {}},
        {"pcrs": {}, "signer": SIGNER},
        {"pcrs": {}, "nitrotpm_pcrs": {}},
        {"pcrs": {}, "allow_debug": True},
        {"pcrs": {8: bytes(48)}},
        {"pcrs": {8: bytes(48), 16: bytes(48)}, "allow_debug": True},
        {"nitrotpm_pcrs": {8: bytes(48)}},
        {"nitrotpm_pcrs": {0: bytes(48)}, "allow_debug": True},
        {"pcrs": {8: bytes(48)}, "signer": SIGNER},
        {"pcrs": {8: b"\x08" * 48}, "signer": SIGNER},
        {"nitrotpm_pcrs": {4: b"\x04" * 48}, "signer": SIGNER},
        {"signer": der(SIGNER)},
        {"pcrs": {"0": PCRS[0]}},
        {"pcrs": {False: PCRS[0]}},
        {"pcrs": {-1: PCRS[0]}},
        {"pcrs": {0: PCRS[0].hex()}},
        {"pcrs": {0: "0" * 48}},
        {"pcrs": {0: None}},
        {"pcrs": IMAGE, "nonce": b""},
        {"pcrs": IMAGE, "user_data": b""},
        {"pcrs": IMAGE, "public_key": b""},
        {"pcrs": IMAGE, "nonce": "nonce"},
        {"pcrs": IMAGE, "nonce": bytes(1025)},
        {"any_pcrs": True, "nonce": b""},
    ],
)
def test_expectations_that_say_nothing_or_cannot_be_met_are_refused(expect: dict[str, Any]) -> None:
    """Empty sets, registers of zeros, empty fields and wrong types are mistakes of the caller."""
    refused("expectations", Expected(**expect))
    refused("expectations", Expected(**expect), b"")


WRONG_TYPES: dict[str, tuple[dict[str, Any], str]] = {
    "seconds for an age": ({"max_age": 60}, "max_age is a datetime.timedelta, not int"),
    "registers by name": ({"pcrs": {"0": PCRS[0]}}, "a register's number is an int, not str"),
    "registers in a list": ({"pcrs": [PCRS[0]]}, "pcrs maps a register's number to 48 bytes, and is list"),
    "registers as a text": ({"nitrotpm_pcrs": "00"}, "nitrotpm_pcrs maps"),
    "a nonce as text": ({"nonce": "abc"}, "the expected nonce is not bytes but str"),
    "a signer in DER": ({"signer": der(SIGNER)}, "the expected signer is a certificate"),
    "a word for yes": ({"any_pcrs": "no"}, "any_pcrs is True or False, not str"),
    "a number for yes": ({"allow_debug": 0}, "allow_debug is True or False, not int"),
    "nothing for no": ({"reconstruct": None}, "reconstruct is True or False, not None"),
    "one revocation": ({"revoked": Revocation.of(SIGNER)}, "revoked holds Revocation"),
    "serials as text": ({"revoked": ["01"]}, "revoked holds Revocation"),
    "no revocations": ({"revoked": None}, "revoked holds Revocation"),
}


@pytest.mark.parametrize(("fields", "reason"), WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_an_expectation_of_a_wrong_type_is_named(fields: dict[str, Any], reason: str) -> None:
    """Callers without a type checker learn in one sentence which argument is wrong."""
    assert refused("expectations", Expected(**{"pcrs": IMAGE} | fields)).startswith(reason)


WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "roots as PEM": ({"roots": b"-----BEGIN"}, "roots is a sequence of certificates, as load_roots"),
    "no roots": ({"roots": None}, "roots is a sequence of certificates"),
    "one root": ({"roots": ROOTS[0]}, r"roots is a sequence.* \[root\] is one"),
    "roots in DER": ({"roots": [der(ROOTS[0])]}, "roots holds certificates.* not bytes"),
    "time as text": ({"now": "2026-11-25"}, "the time to verify at is a datetime.datetime"),
    "registers alone": ({"expect": IMAGE}, "what is expected is an Expected, not dict"),
    "a dictionary as cache": ({"cache": {}}, "the cache is a CertificateCache, not dict"),
}


@pytest.mark.parametrize(("arguments", "reason"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_an_argument_of_a_wrong_type_is_named(arguments: dict[str, Any], reason: str) -> None:
    """So it is with the other arguments of verify."""
    right: dict[str, Any] = {"roots": ROOTS, "now": NOW, "expect": Expected(pcrs=IMAGE)}
    with pytest.raises(VerificationError, match=reason) as caught:
        verify(DOCUMENT, **right | arguments)
    assert caught.value.name == "expectations"


def test_roots_are_read_from_bytes() -> None:
    """A file's name, or a certificate read already, is refused in a sentence."""
    for wrong, kind in (("root.pem", "str"), (ROOTS[0], "Certificate"), (None, "NoneType")):
        with pytest.raises(RootsError, match=f"the bytes of a file, and {kind} was given"):
            load_roots(wrong)  # type: ignore[arg-type]  # the claim


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=60, microseconds=1), "the document is 1 min 0.001 s old, and 1 min is allowed"),
        (timedelta(hours=2, seconds=3.5), "the document is 2 h 3.5 s old, and 1 min is allowed"),
        (-timedelta(minutes=6), "the document is 6 min in the future, and 1 min is allowed"),
    ],
)
def test_an_age_is_spelled_in_its_units(age: timedelta, words: str) -> None:
    """An age that is refused never reads like the one that is allowed."""
    expect = Expected(pcrs=IMAGE, max_age=timedelta(minutes=1))
    signed_at = NOW + timedelta(minutes=30)
    document = sign(CREDENTIALS, module_id=MODULE_ID, now=signed_at, pcrs=PCRS)
    made = passes(Expected(pcrs=IMAGE), document).time
    assert refused("age", expect, document, now=made + age) == words


def test_a_debug_document_explains_its_registers() -> None:
    """An image's register is never found in debug mode, and the refusal says so."""
    debug = sign(CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=PcrBank().locked())
    assert "zero, as in debug mode" in refused("pcrs", Expected(pcrs=IMAGE, allow_debug=True), debug)


@pytest.mark.parametrize("index", range(3))
def test_a_zero_image_register_is_expected_of_debug_enclaves_alone(index: int) -> None:
    """Expecting one of PCR0 to PCR2 to be zero needs allow_debug, even for a bank that is zero only there."""
    odd = sign(CREDENTIALS, module_id=MODULE_ID, now=NOW, pcrs=PCRS | {index: bytes(48)})
    expect = Expected(pcrs={index: bytes(48), 8: PCRS[8]})
    assert "debug mode" in refused("debug", expect, odd)
    refused("debug", expect)
    assert passes(replace(expect, allow_debug=True), odd).pcrs[index] == bytes(48)


class Nowhere(tzinfo):
    """A zone that does not know its distance from UTC."""

    def utcoffset(self, _: datetime | None) -> None:
        """Return nothing, as a zone may."""

    def dst(self, _: datetime | None) -> None:
        """Return nothing."""

    def tzname(self, _: datetime | None) -> None:
        """Return nothing."""


@pytest.mark.parametrize(
    "now",
    [
        NOW.replace(tzinfo=None),
        NOW.replace(tzinfo=Nowhere()),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    ],
    ids=["naive", "zone without offset", "before the calendar", "after the calendar"],
)
def test_a_time_that_is_no_moment_is_refused(now: datetime) -> None:
    """The time to verify at must be a moment that can be written in UTC."""
    refused("expectations", Expected(pcrs=IMAGE), now=now)


def test_the_first_and_last_moments_of_the_calendar_are_only_invalid() -> None:
    """Extreme clocks end at the certificates' validity."""
    for now in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        refused("validity", Expected(pcrs=IMAGE), now=now)


@pytest.mark.parametrize("place", range(5))
def test_a_revoked_certificate_ends_the_chain(place: int) -> None:
    """Whichever certificate the operator lists, the document is refused, known chain or not."""
    chain = [x509.load_der_x509_certificate(one) for one in (*CREDENTIALS.cabundle, CREDENTIALS.certificate)]
    expect = Expected(pcrs=IMAGE, revoked={Revocation.of(chain[place])})
    cache = CertificateCache()
    assert f"serial {chain[place].serial_number:x}" in refused("revocation", expect)
    with pytest.raises(VerificationError, match="revocation"):
        verify(DOCUMENT, roots=ROOTS, now=NOW, expect=expect, cache=cache)
    assert len(cache) == 0
    verify(DOCUMENT, roots=ROOTS, now=NOW, expect=Expected(pcrs=IMAGE), cache=cache)
    with pytest.raises(VerificationError, match="revocation"):
        verify(DOCUMENT, roots=ROOTS, now=NOW, expect=expect, cache=cache)


def test_revocation_names_issuer_and_serial_together() -> None:
    """The same number of another issuer, or another number of the same one, is another certificate."""
    revoked = Revocation.of(SIGNER)
    assert revoked == (SIGNER.issuer.public_bytes(), SIGNER.serial_number)
    others = {
        Revocation(revoked.issuer, revoked.serial + 1),
        Revocation(SIGNER.subject.public_bytes(), revoked.serial),
    }
    passes(Expected(pcrs=IMAGE, revoked=others))


@pytest.mark.parametrize("indefinite", [True, False])
def test_what_is_expected_can_be_written_again(*, indefinite: bool) -> None:
    """With reconstruction, what is expected and read makes the signed bytes again, in both encodings."""
    content = passes(Expected(pcrs=IMAGE))
    expect = Expected(pcrs=PCRS, nonce=b"nonce", user_data=b"data", public_key=b"key", reconstruct=True)
    assert passes(expect, signed(content.to_bytes(indefinite=indefinite))) == content
    assert passes(Expected(signer=SIGNER, reconstruct=True)) == content


def test_reconstruction_refuses_other_spellings_of_the_same_content() -> None:
    """Another order of fields, registers or absent ones is accepted as a document, not as AWS's writing."""
    content = passes(Expected(pcrs=IMAGE))
    fields: dict[str, Any] = {
        "digest": "SHA384",
        "module_id": content.module_id,
        "timestamp": content.timestamp,
        "pcrs": dict(sorted(content.pcrs.items(), reverse=True)),
        "certificate": content.certificate,
        "cabundle": list(content.cabundle),
        "public_key": content.public_key,
        "user_data": content.user_data,
        "nonce": content.nonce,
    }
    other = signed(encode_cbor(fields))
    assert passes(Expected(pcrs=PCRS), other) == content
    refused("reconstruction", Expected(pcrs=PCRS, reconstruct=True), other)


def test_what_was_verified_cannot_be_changed() -> None:
    """Registers are a read-only copy, equal to a plain dictionary; everything else is immutable."""
    bank = dict(PCRS)
    content = replace(passes(Expected(pcrs=IMAGE)), pcrs=bank)
    bank[0] = bytes(48)
    assert content.pcrs == PCRS
    assert content == passes(Expected(pcrs=IMAGE))
    with pytest.raises(TypeError):
        content.pcrs[0] = bytes(48)  # type: ignore[index]  # the claim
    with pytest.raises(TypeError):
        hash(content)
    assert {type(value) for value in content.pcrs.values()} == {bytes}
    assert type(content.cabundle) is tuple
