"""Our reading of certificates agrees with the library's, and refuses what the library only warns about."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from asn1crypto import algos, core
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cloister.cose import Sign1, decode_cbor
from cloister.pki.der import BasicConstraints, CertificateParts, DerError, KeyUsage
from simulators.local_chain import NOW, local_chain

CREDENTIALS = local_chain().credentials(NOW)
LEAF = CREDENTIALS.certificate


def agrees(der: bytes) -> None:
    """Compare every part with what cryptography makes of the same bytes."""
    parts, certificate = CertificateParts.from_bytes(der), x509.load_der_x509_certificate(der)
    assert parts.signed == certificate.tbs_certificate_bytes
    assert parts.signature == certificate.signature
    assert parts.serial == certificate.serial_number
    assert (parts.begins, parts.ends) == (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    assert parts.issuer == certificate.issuer.public_bytes()
    assert parts.subject == certificate.subject.public_bytes()
    info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert parts.key == info
    assert len(parts.extensions) == len(certificate.extensions)
    for oid, (critical, value) in parts.extensions.items():
        dotted = core.ObjectIdentifier.load(bytes((6, len(oid))) + oid).dotted
        extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(dotted))
        assert critical is extension.critical
        assert value == extension.value.public_bytes()
        if isinstance(extension.value, x509.BasicConstraints):
            read = BasicConstraints.from_bytes(value)
            assert (read.ca, read.path_length) == (extension.value.ca, extension.value.path_length)
        if isinstance(extension.value, x509.KeyUsage):
            usage = KeyUsage.from_bytes(value)
            assert usage.digital_signature is extension.value.digital_signature
            assert usage.key_cert_sign is extension.value.key_cert_sign


def test_we_read_our_own_certificates_as_cryptography_does() -> None:
    """Names, key and extensions of the local chain are the same to both readers."""
    for der in (*CREDENTIALS.cabundle, LEAF):
        agrees(der)


def test_we_read_genuine_certificates_as_cryptography_does(shared_vectors: Path) -> None:
    """Names, key and extensions of every genuine chain are the same to both readers."""
    for entry in json.loads((shared_vectors / "attestation/manifest.json").read_text()):
        payload = decode_cbor(Sign1.from_bytes((shared_vectors / entry["file"]).read_bytes()).payload)
        for der in (*payload["cabundle"], payload["certificate"]):
            agrees(der)


def serial(number: int) -> Callable[[asn1.Certificate], None]:
    """Return an edit of the serial number."""

    def edit(certificate: asn1.Certificate) -> None:
        certificate["tbs_certificate"]["serial_number"] = number

    return edit


def nameless(field: str) -> Callable[[asn1.Certificate], None]:
    """Return an edit that empties a name."""

    def edit(certificate: asn1.Certificate) -> None:
        certificate["tbs_certificate"][field] = asn1.Name.build({})

    return edit


def version_2(certificate: asn1.Certificate) -> None:
    """Make it a version 2 certificate."""
    certificate["tbs_certificate"]["version"] = "v2"


def unique_identifier(certificate: asn1.Certificate) -> None:
    """Give it a unique identifier, as nobody does."""
    certificate["tbs_certificate"]["subject_unique_id"] = core.OctetBitString(b"\x01")


def duplicate_extension(certificate: asn1.Certificate) -> None:
    """Repeat its first extension."""
    extensions = certificate["tbs_certificate"]["extensions"]
    extensions.append(extensions[0])


@pytest.mark.parametrize(
    "edit",
    [
        serial(0), serial(-5), serial(1 << 160), version_2, unique_identifier, duplicate_extension,
        nameless("issuer"), nameless("subject"),
    ],
    ids=[
        "serial 0", "serial -5", "serial of 21 bytes", "version 2", "unique identifier", "extension twice",
        "no issuer", "no subject",
    ],
)  # fmt: skip
def test_certificates_of_another_kind_are_refused(edit: Callable[[asn1.Certificate], None]) -> None:
    """Among them those for which the library merely issues a warning."""
    certificate = asn1.Certificate.load(LEAF)
    edit(certificate)
    with pytest.raises(DerError):
        CertificateParts.from_bytes(certificate.dump(force=True))


def test_a_serial_number_has_at_most_20_bytes() -> None:
    """The largest number is read, with the zero before it that makes it positive (RFC 5280, 4.1.2.2)."""
    certificate = asn1.Certificate.load(LEAF)
    serial((1 << 160) - 1)(certificate)
    assert CertificateParts.from_bytes(certificate.dump(force=True)).serial == (1 << 160) - 1


def with_end(tag: int, text: bytes) -> bytes:
    """Return the leaf's fields with another notAfter; the lengths around it are adjusted."""
    certificate = asn1.Certificate.load(LEAF)
    old = certificate["tbs_certificate"]["validity"]
    begins = old["not_before"].dump()
    content = begins + bytes((tag, len(text))) + text
    return LEAF.replace(old.dump(), bytes((0x30, len(content))) + content)


@pytest.mark.parametrize(
    ("tag", "text", "moment"),
    [
        (0x17, b"250203150000Z", datetime(2025, 2, 3, 15, tzinfo=UTC)),
        (0x17, b"491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (0x17, b"500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (0x17, b"240229000000Z", datetime(2024, 2, 29, tzinfo=UTC)),
        (0x18, b"20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
        (0x18, b"99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_time_has_the_form_of_its_year(tag: int, text: bytes, moment: datetime) -> None:
    """UTCTime up to 2049, GeneralizedTime from 2050, as RFC 5280 section 4.1.2.5 says."""
    assert CertificateParts.from_bytes(resized(with_end(tag, text))).ends == moment


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x18, b"20250203150000Z"),
        (0x18, b"20491231235959Z"),
        (0x18, b"00000101000000Z"),
        (0x17, b"250229000000Z"),
        (0x17, b"250431000000Z"),
        (0x17, b"250001000000Z"),
        (0x17, b"251301000000Z"),
        (0x17, b"250200000000Z"),
        (0x17, b"250203240000Z"),
        (0x17, b"250203156000Z"),
        (0x17, b"250203150060Z"),
        (0x17, b"2502031500Z"),
        (0x17, b"250203150000"),
        (0x17, b"250203150000z"),
        (0x17, b"2502031500+0000"),
        (0x17, b"250203150000+0000"),
        (0x17, b"+50203150000Z"),
        (0x17, b" 50203150000Z"),
        (0x17, b"25020315000_Z"),
        (0x17, b""),
        (0x18, b"20500203150000.5Z"),
        (0x18, b"2050020315Z"),
        (0x18, b"205002031500Z"),
        (0x16, b"250203150000Z"),
    ],
)
def test_a_time_that_is_none_is_refused(tag: int, text: bytes) -> None:
    """Days and hours that no calendar or clock shows, fractions, zones, and the other form are not DER."""
    with pytest.raises(DerError, match="validity"):
        CertificateParts.from_bytes(resized(with_end(tag, text)))


def resized(der: bytes) -> bytes:
    """Set the two outer lengths of a certificate to what they enclose now."""
    algorithm = der.rindex(bytes.fromhex("300a06082a8648ce3d040303"))
    signed, rest = der[8:algorithm], der[algorithm:]
    body = b"\x30\x82" + len(signed).to_bytes(2, "big") + signed + rest
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


def test_algorithm_parameters_are_kept_apart() -> None:
    """An explicit NULL makes another algorithm identifier, which no check will take for the plain one."""
    certificate = asn1.Certificate.load(LEAF)
    certificate["signature_algorithm"] = algos.SignedDigestAlgorithm(
        {"algorithm": "sha384_ecdsa", "parameters": core.Null()}
    )
    parts = CertificateParts.from_bytes(certificate.dump(force=True))
    assert parts.outer_algorithm != parts.inner_algorithm


@pytest.mark.parametrize(
    "value",
    [
        "",
        "3000ff",
        "3003010100",
        "3003010101",
        "30050101ff0200",
        "30060101ff0201ff",
        "30070101ff02020001",
        "3003020100",
    ],
)
def test_malformed_constraints_are_refused(value: str) -> None:
    """An explicit default, a BOOLEAN of 01, and a negative, long or lonely path length are not DER."""
    with pytest.raises(DerError):
        BasicConstraints.from_bytes(bytes.fromhex(value))


@pytest.mark.parametrize(
    "value",
    ["", "0300", "030100", "03020000", "03020880", "03020086", "03020781ff", "03020381", "0304078000ff"],
)
def test_malformed_usages_are_refused(value: str) -> None:
    """A bit string without bits, with stray ones, or with trailing zeros is not DER."""
    with pytest.raises(DerError):
        KeyUsage.from_bytes(bytes.fromhex(value))


@given(st.binary(max_size=80) | st.integers(0, len(LEAF) - 1).map(lambda cut: LEAF[:cut]))
def test_anything_else_is_refused_cleanly(data: bytes) -> None:
    """Arbitrary and truncated bytes give our error and no other."""
    with pytest.raises(DerError):
        CertificateParts.from_bytes(data)
