"""Chain validation: the local and genuine chains hold, and each way of being wrong fails its own check."""

import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import keys as asn1_keys
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from cloister.pki import CHAIN_CHECKS, ChainError, issue_root, validate_chain
from simulators.local_chain import NOW, der, key_usage, local_chain, new_key, reissue

CHAIN = local_chain()
AUTHORITIES = (CHAIN.root, CHAIN.regional, CHAIN.zonal, CHAIN.instance)
CREDENTIALS = CHAIN.credentials(NOW)
LEAF = x509.load_der_x509_certificate(CREDENTIALS.certificate)
BUNDLE = list(CREDENTIALS.cabundle)
ROOTS = [CHAIN.root.certificate]
CA = x509.BasicConstraints(ca=True, path_length=0)
ISSUES = key_usage("key_cert_sign")
SECOND = timedelta(seconds=1)


def refused(
    check: str,
    *,
    leaf: bytes = CREDENTIALS.certificate,
    bundle: Sequence[bytes] = BUNDLE,
    roots: Sequence[x509.Certificate] = ROOTS,
    at: datetime = NOW,
) -> str:
    """Validate a chain that must fail at the given check, and return the reason."""
    with pytest.raises(ChainError) as caught:
        validate_chain(leaf, bundle, roots, at)
    assert caught.value.check == check, caught.value
    return caught.value.message


def with_instance(*extensions: tuple[x509.ExtensionType, bool]) -> list[bytes]:
    """Return the bundle with the instance certificate issued again with these extensions."""
    return [*BUNDLE[:3], der(reissue(CHAIN.instance.certificate, CHAIN.zonal.key, extensions=extensions))]


def leaf_with(*extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    """Return the leaf issued again with these extensions."""
    return der(reissue(LEAF, CHAIN.instance.key, extensions=extensions))


def raw(oid: x509.ObjectIdentifier, content: str) -> x509.UnrecognizedExtension:
    """Return an extension whose content is spelt out in hexadecimal."""
    return x509.UnrecognizedExtension(oid, bytes.fromhex(content))


def test_the_local_chain_holds() -> None:
    """A chain as issued validates, and comes back root first."""
    chain = validate_chain(CREDENTIALS.certificate, BUNDLE, ROOTS, NOW)
    assert [der(certificate) for certificate in chain] == [*BUNDLE, CREDENTIALS.certificate]


def test_validity_is_inclusive_to_the_second() -> None:
    """The first and the last second of the leaf's life count, fractions and all; one more does not."""
    first, last = LEAF.not_valid_before_utc, LEAF.not_valid_after_utc
    for moment in (first, last, last + SECOND - timedelta(microseconds=1)):
        validate_chain(CREDENTIALS.certificate, BUNDLE, ROOTS, moment)
    assert "not valid before" in refused("validity", at=first - SECOND)
    assert "expired" in refused("validity", at=last + SECOND)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("expired", [True, False])
def test_every_authority_must_be_valid(place: int, *, expired: bool) -> None:
    """An authority that ended a second ago, or begins in a second, fails the chain, the root included."""
    old = AUTHORITIES[place]
    moment = NOW.replace(microsecond=0)
    again = reissue(
        old.certificate,
        AUTHORITIES[max(place - 1, 0)].key,
        end=moment - SECOND if expired else None,
        start=None if expired else moment + SECOND,
    )
    bundle = [*BUNDLE[:place], der(again), *BUNDLE[place + 1 :]]
    roots = [again] if place == 0 else ROOTS
    refused("validity", bundle=bundle, roots=roots)


def test_the_root_is_pinned_byte_for_byte() -> None:
    """A foreign root of the same name and number, or the same root issued again, is not trusted."""
    stranger = new_key()
    refused("root", bundle=[der(issue_root(stranger, serial=1, now=NOW)), *BUNDLE[1:]])
    again = reissue(CHAIN.root.certificate, CHAIN.root.key)
    refused("root", bundle=[der(again), *BUNDLE[1:]])
    refused("root", roots=[])
    refused("root", bundle=BUNDLE[1:])


def test_several_roots_can_be_trusted() -> None:
    """A chain needs one of the pinned roots."""
    other = issue_root(new_key(), serial=9, now=NOW)
    validate_chain(CREDENTIALS.certificate, BUNDLE, [other, *ROOTS], NOW)


def test_the_order_is_the_document_order() -> None:
    """Reversed, shuffled, gapped and padded bundles are refused, though a path could be found in them."""
    refused("root", bundle=BUNDLE[::-1])
    refused("order", bundle=[BUNDLE[0], BUNDLE[2], BUNDLE[1], BUNDLE[3]])
    refused("order", bundle=[BUNDLE[0], *BUNDLE[2:]])
    refused("order", bundle=BUNDLE[:3])
    refused("order", bundle=[*BUNDLE, BUNDLE[0]])
    refused("order", leaf=BUNDLE[3])


@pytest.mark.parametrize(
    ("leaf", "bundle"),
    [
        (CREDENTIALS.certificate, []),
        (CREDENTIALS.certificate, [BUNDLE[0]] * 9),
        (CREDENTIALS.certificate, [*BUNDLE[:3], b""]),
        (CREDENTIALS.certificate, [*BUNDLE[:3], bytes(1025)]),
        (CREDENTIALS.certificate, [*BUNDLE[:3], BUNDLE[3] + b"\x00"]),
        (CREDENTIALS.certificate, [*BUNDLE[:3], BUNDLE[3][:-1]]),
        (b"\x30\x00", BUNDLE),
        (b"not a certificate", BUNDLE),
        (leaf_with((raw(ExtensionOID.BASIC_CONSTRAINTS, "3003010101"), True)), BUNDLE),
        (leaf_with((raw(ExtensionOID.KEY_USAGE, "05006a756e6b"), True)), BUNDLE),
    ],
    ids=[
        "no bundle", "nine authorities", "empty certificate", "large certificate", "trailing byte",
        "truncated", "empty sequence", "text", "BOOLEAN that is neither 00 nor ff", "malformed extension",
    ],
)  # fmt: skip
def test_malformed_certificates_are_refused(leaf: bytes, bundle: list[bytes]) -> None:
    """What is not a complete, canonical certificate of at most 1024 bytes goes no further."""
    refused("certificates", leaf=leaf, bundle=bundle)


def test_only_p384_and_sha384_are_accepted() -> None:
    """Another curve, an RSA-free but weaker hash, or differing inner and outer algorithms are refused."""
    p256 = ec.generate_private_key(ec.SECP256R1())
    refused("algorithms", leaf=der(reissue(LEAF, CHAIN.instance.key, public_key=p256.public_key())))
    refused("algorithms", leaf=der(reissue(LEAF, CHAIN.instance.key, algorithm=hashes.SHA256())))
    head, _, tail = CREDENTIALS.certificate.rpartition(bytes.fromhex("06082a8648ce3d040303"))
    outer_differs = head + bytes.fromhex("06082a8648ce3d040302") + tail
    refused("algorithms", leaf=outer_differs)


def test_a_compressed_key_is_not_the_canonical_form() -> None:
    """The same key under another encoding is refused, though OpenSSL would read it."""
    key = LEAF.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    long = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    short = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    certificate = asn1.Certificate.load(CREDENTIALS.certificate)
    assert certificate.dump() == CREDENTIALS.certificate
    info = certificate["tbs_certificate"]["subject_public_key_info"]
    assert info["public_key"].native == long
    info["public_key"] = asn1_keys.ECPointBitString(short)
    refused("algorithms", leaf=certificate.dump(force=True))


@pytest.mark.parametrize(
    "extension",
    [
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),
        (x509.SubjectAlternativeName([x509.DNSName("example.com")]), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.NameConstraints([x509.DNSName("example.com")], None), False),
    ],
    ids=["unknown critical", "critical SAN", "EKU", "name constraints"],
)
def test_extensions_that_would_need_honouring_are_refused(extension: tuple[x509.ExtensionType, bool]) -> None:
    """An extension that is critical or narrows, and that we do not implement, fails the chain."""
    usage = key_usage("digital_signature")
    refused("algorithms", leaf=leaf_with((usage, False), extension))
    refused("algorithms", bundle=with_instance((CA, True), (ISSUES, True), extension))


def test_an_unknown_extension_that_is_not_critical_is_ignored() -> None:
    """RFC 5280 says to ignore those, and AWS has added such ones over the years."""
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    validate_chain(leaf_with((key_usage("digital_signature"), False), (extension, False)), BUNDLE, ROOTS, NOW)


@pytest.mark.parametrize(
    "extensions",
    [
        [(ISSUES, True)],
        [(CA, False), (ISSUES, True)],
        [(x509.BasicConstraints(ca=False, path_length=None), True), (ISSUES, True)],
        [(x509.BasicConstraints(ca=True, path_length=None), True), (ISSUES, True)],
        [(CA, True)],
        [(CA, True), (key_usage("digital_signature", "crl_sign"), True)],
    ],
    ids=["no constraints", "not critical", "CA false", "no pathLen", "no key usage", "may not issue"],
)
def test_an_authority_must_be_allowed_to_issue(extensions: list[tuple[x509.ExtensionType, bool]]) -> None:
    """The basicConstraints extension is critical, true and bounded, and keyUsage has keyCertSign."""
    refused("authorities", bundle=with_instance(*extensions))


def test_path_length_is_enforced() -> None:
    """A regional authority that allows no authority below it cannot have two."""
    usage = key_usage("key_cert_sign")
    for place, allowed in ((1, 1), (2, 0)):
        constraints = x509.BasicConstraints(ca=True, path_length=allowed)
        authority = AUTHORITIES[place]
        again = reissue(
            authority.certificate,
            AUTHORITIES[place - 1].key,
            extensions=[(constraints, True), (usage, True)],
        )
        refused("authorities", bundle=[*BUNDLE[:place], der(again), *BUNDLE[place + 1 :]])


def test_an_enclave_cannot_issue_certificates() -> None:
    """A second leaf signed by the first one's key is refused, whatever it says of itself."""
    second = reissue(LEAF, CREDENTIALS.key, issuer=LEAF.subject)
    refused("authorities", leaf=der(second), bundle=[*BUNDLE, CREDENTIALS.certificate])


@pytest.mark.parametrize(
    "extensions",
    [
        [(x509.BasicConstraints(ca=True, path_length=None), True), (key_usage("digital_signature"), False)],
        [(x509.BasicConstraints(ca=False, path_length=None), True)],
        [(key_usage("content_commitment"), False)],
        [(key_usage("digital_signature", "key_cert_sign"), False)],
    ],
    ids=["CA", "no key usage", "may not sign", "may issue"],
)
def test_the_leaf_may_sign_and_not_issue(extensions: list[tuple[x509.ExtensionType, bool]]) -> None:
    """The leaf is no CA, has digitalSignature and lacks keyCertSign."""
    refused("leaf", leaf=leaf_with(*extensions))


def test_a_signature_by_another_key_is_refused_and_named() -> None:
    """A certificate that merely names its issuer fails, and the reason says which certificate."""
    stranger = new_key()
    assert refused("chain signatures", leaf=der(reissue(LEAF, stranger))).startswith(
        "the signing certificate"
    )
    again = reissue(CHAIN.zonal.certificate, stranger)
    reason = refused("chain signatures", bundle=[BUNDLE[0], BUNDLE[1], der(again), BUNDLE[3]])
    assert reason == "CA certificate 2 is not signed by the certificate before it"


def test_key_identifiers_must_agree() -> None:
    """An authority key identifier that names another key is refused."""
    wrong = x509.AuthorityKeyIdentifier(bytes(20), None, None)
    refused("order", bundle=with_instance((CA, True), (ISSUES, True), (wrong, False)))


def altered(position: int) -> bytes:
    """Return the leaf with one bit of its signed part flipped."""
    content = bytearray(CREDENTIALS.certificate)
    content[position] ^= 0x01
    return bytes(content)


def test_no_flipped_bit_passes() -> None:
    """Every byte of the leaf is covered: by its signature, or by being the signature."""
    for position in range(0, len(CREDENTIALS.certificate), 7):
        with pytest.raises(ChainError):
            validate_chain(altered(position), BUNDLE, ROOTS, NOW)


def test_the_checks_are_named_in_the_order_they_run() -> None:
    """The names of the checks are distinct, since steps are numbered by them."""
    assert len(set(CHAIN_CHECKS)) == len(CHAIN_CHECKS) == 9


def test_openssl_accepts_the_chain(tmp_path: Path) -> None:
    """OpenSSL's own path validation, strict profile checks off the leaf's missing key identifiers, agrees."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is absent")
    names = []
    for name, content in zip(
        ("root", "regional", "zonal", "instance", "leaf"), [*BUNDLE, CREDENTIALS.certificate], strict=True
    ):
        path = tmp_path / f"{name}.pem"
        path.write_bytes(x509.load_der_x509_certificate(content).public_bytes(Encoding.PEM))
        names.append(path)
    untrusted = [word for path in names[1:4] for word in ("-untrusted", str(path))]
    command = [
        "openssl",
        "verify",
        "-attime",
        str(int(NOW.timestamp())),
        "-CAfile",
        str(names[0]),
        *untrusted,
    ]
    outcome = subprocess.run(
        [*command, str(names[4])], capture_output=True, text=True, timeout=20, check=False
    )
    assert (outcome.returncode, outcome.stdout.strip()) == (0, f"{names[4]}: OK"), outcome.stderr
    without_zonal = [word for word in command if word != str(names[2])]
    without_zonal.remove("-untrusted")
    outcome = subprocess.run(
        [*without_zonal, str(names[4])], capture_output=True, text=True, timeout=20, check=False
    )
    assert outcome.returncode != 0
