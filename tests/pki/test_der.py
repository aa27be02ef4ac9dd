"""Our reading of certificates agrees with the library's, and refuses what the library only warns about."""

import json
from collections.abc import Callable
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
    [serial(0), serial(-5), serial(1 << 168), version_2, unique_identifier, duplicate_extension],
    ids=["serial 0", "serial -5", "serial of 22 bytes", "version 2", "unique identifier", "extension twice"],
)
def test_certificates_of_another_kind_are_refused(edit: Callable[[asn1.Certificate], None]) -> None:
    """Among them those for which the library merely issues a warning."""
    certificate = asn1.Certificate.load(LEAF)
    edit(certificate)
    with pytest.raises(DerError):
        CertificateParts.from_bytes(certificate.dump(force=True))


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
