"""Signatures and keys of a chain at the edges, and the same answers as the library's own path validation."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import keys
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509 import verification

from cloister.cose import Sign1, decode_cbor
from cloister.pki import ChainError, load_roots, validate_chain
from simulators.local_chain import NOW, der, key_usage, local_chain, new_key, reissue

CHAIN = local_chain()
CREDENTIALS = CHAIN.credentials(NOW)
LEAF, BUNDLE = CREDENTIALS.certificate, list(CREDENTIALS.cabundle)
ROOTS = [CHAIN.root.certificate]
CERTIFICATE = x509.load_der_x509_certificate(LEAF)
R, S = decode_dss_signature(CERTIFICATE.signature)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
PRIME = 2**384 - 2**128 - 2**96 + 2**32 - 1


def refusal(leaf: bytes, bundle: Sequence[bytes] = BUNDLE) -> str:
    """Return the check that refuses a chain."""
    with pytest.raises(ChainError) as caught:
        validate_chain(leaf, bundle, ROOTS, NOW)
    return caught.value.check


def with_signature(signature: bytes) -> bytes:
    """Return the leaf under another signature."""
    certificate = asn1.Certificate.load(LEAF)
    certificate["signature_value"] = signature
    return bytes(certificate.dump(force=True))


def with_point(x: int, y: int) -> bytes:
    """Return the leaf with another public key, signed by its issuer."""
    certificate = asn1.Certificate.load(LEAF)
    point = b"\x04" + x.to_bytes(48, "big") + y.to_bytes(48, "big")
    certificate["tbs_certificate"]["subject_public_key_info"]["public_key"] = keys.ECPointBitString(point)
    signed = certificate["tbs_certificate"].dump(force=True)
    certificate["signature_value"] = CHAIN.instance.key.sign(signed, ec.ECDSA(hashes.SHA384()))
    return bytes(certificate.dump(force=True))


@pytest.mark.parametrize(
    "signature",
    [
        encode_dss_signature(0, S),
        encode_dss_signature(R, 0),
        encode_dss_signature(ORDER, S),
        encode_dss_signature(R, ORDER),
        encode_dss_signature(R + ORDER, S),
        encode_dss_signature(S, R),
        R.to_bytes(48, "big") + S.to_bytes(48, "big"),
        CERTIFICATE.signature + b"\x00",
        CERTIFICATE.signature[:-1],
        b"",
    ],
    ids=[
        "r is 0", "s is 0", "r is n", "s is n", "r + n", "swapped", "raw r and s",
        "trailing byte", "a byte short", "empty",
    ],
)  # fmt: skip
def test_no_other_signature_of_a_certificate_passes(signature: bytes) -> None:
    """An issuer's signature is one ECDSA-Sig-Value in DER, r and s from 1 to n - 1."""
    assert refusal(with_signature(signature)) == "chain signatures"


def test_a_signature_of_so_many_bits_is_not_a_signature() -> None:
    """A bit string that leaves bits unused is refused where it is read."""
    bits = b"\x03" + bytes((len(CERTIFICATE.signature) + 1,))
    assert LEAF.count(bits + b"\x00") == 1
    assert refusal(LEAF.replace(bits + b"\x00", bits + b"\x01")) == "certificates"


@pytest.mark.parametrize(
    "point",
    [(0, 0), (1, 1), (PRIME, PRIME), (2**384 - 1, 2**384 - 1), (R, S)],
    ids=["zero", "ones", "beyond the field", "all bits", "random"],
)
def test_a_key_that_is_no_point_of_the_curve_is_refused(point: tuple[int, int]) -> None:
    """Even when its issuer certifies it."""
    assert refusal(with_point(*point)) == "algorithms"
    key = CERTIFICATE.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    numbers = key.public_numbers()
    validate_chain(with_point(numbers.x, numbers.y), BUNDLE, ROOTS, NOW)
    assert refusal(with_point(numbers.x, numbers.y ^ 1)) == "algorithms"


def test_look_alike_authorities_are_not_searched() -> None:
    """Authorities that all bear the root's name and one stranger's key fail at the first signature."""
    key = new_key()
    ca = [(x509.BasicConstraints(ca=True, path_length=7), True), (key_usage("key_cert_sign"), True)]
    name = CHAIN.root.certificate.subject
    twins = [
        der(reissue(CHAIN.root.certificate, key, issuer=name, public_key=key.public_key(), extensions=ca))
        for _ in range(7)
    ]
    leaf = der(reissue(CERTIFICATE, key, issuer=name))
    assert refusal(leaf, [BUNDLE[0], *twins]) == "chain signatures"


def library_accepts(leaf: bytes, bundle: Sequence[bytes], root: x509.Certificate, at: datetime) -> bool:
    """Ask cryptography's path validation, with the extensions that genuine chains have."""
    authority = verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, verification.Criticality.CRITICAL, None
    )
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([root]))
        .time(at)
        .extension_policies(ca_policy=authority, ee_policy=verification.ExtensionPolicy.permit_all())
        .max_chain_depth(8)
        .build_client_verifier()
    )
    try:
        verifier.verify(
            x509.load_der_x509_certificate(leaf), [x509.load_der_x509_certificate(one) for one in bundle[1:]]
        )
    except verification.VerificationError:
        return False
    return True


def refusal_at(leaf: bytes, bundle: Sequence[bytes], root: x509.Certificate, at: datetime) -> str | None:
    """Return the check that refuses a chain at a time, None if it is accepted."""
    try:
        validate_chain(leaf, bundle, [root], at)
    except ChainError as error:
        return error.check
    return None


def agrees(leaf: bytes, bundle: Sequence[bytes], root: x509.Certificate) -> None:
    """Compare our answer with the library's at the edges of every certificate's life."""
    second = timedelta(seconds=1)
    certificates = [x509.load_der_x509_certificate(one) for one in (*bundle, leaf)]
    for certificate in certificates:
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        for moment in (begins - second, begins, ends, ends + second):
            ours = refusal_at(leaf, bundle, root, moment)
            assert ours in {None, "validity"}
            assert (ours is None) is library_accepts(leaf, bundle, root, moment), moment


def test_the_library_agrees_on_the_local_chain() -> None:
    """An implementation of RFC 5280 that is not ours accepts and refuses at the same seconds."""
    agrees(LEAF, BUNDLE, CHAIN.root.certificate)
    for place in range(1, 4):
        stranger = der(reissue(x509.load_der_x509_certificate(BUNDLE[place]), new_key()))
        bundle = [*BUNDLE[:place], stranger, *BUNDLE[place + 1 :]]
        assert refusal(LEAF, bundle) == "chain signatures"
        assert not library_accepts(LEAF, bundle, CHAIN.root.certificate, NOW)


def test_the_library_agrees_on_genuine_chains(shared_vectors: Path) -> None:
    """The same for every genuine chain under AWS's root."""
    (root,) = load_roots((shared_vectors / "aws-nitro-root-g1.pem").read_bytes())
    for entry in json.loads((shared_vectors / "attestation/manifest.json").read_text()):
        payload = decode_cbor(Sign1.from_bytes((shared_vectors / entry["file"]).read_bytes()).payload)
        agrees(payload["certificate"], payload["cabundle"], root)
