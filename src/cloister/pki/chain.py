"""Validate an attestation chain: pinned root, exact order, constraints, validity to the second, signatures.

RFC 5280 section 6 narrowed to the genuine profile (``kms-and-attestation.md`` sections 3.1, 3.3 and 3.6): our
own checks for everything a reader of that profile can state, over our own reading of the DER, and the path
and signature check of ``cryptography.x509.verification`` over the very same certificates. Not here:
revocation lists, which AWS's verification procedure leaves out too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification

from cloister.errors import CloisterError
from cloister.pki.der import BasicConstraints, CertificateParts, DerError, KeyUsage, key_identifier

CHAIN_CHECKS = (
    "certificates",  # each parses completely, as X.509 version 3
    "root",  # the bundle starts with a pinned root, byte for byte
    "algorithms",  # P-384 keys, ecdsa-with-SHA384 signatures
    "order",  # each names the one before it as its issuer
    "authorities",  # every certificate but the leaf may issue, to the depth at which it does
    "leaf",  # the leaf may sign and may not issue
    "validity",  # the time lies within every certificate's life
    "chain signatures",  # each is signed by the one before it
)
MAX_CERTIFICATE = 1024  # bytes, nsm-api attestation_process.md, section 3.2.2
MAX_BUNDLE = 8  # genuine bundles hold 4; bounds the work a hostile document can ask for

# AlgorithmIdentifiers and object identifiers as DER (RFC 5480, RFC 5280 section 4.2)
_ECDSA_WITH_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_KEY_USAGE = bytes.fromhex("551d0f")
_SUBJECT_KEY = bytes.fromhex("551d0e")
_AUTHORITY_KEY = bytes.fromhex("551d23")
_CRITICAL_KNOWN = {_BASIC_CONSTRAINTS, _KEY_USAGE}
# Extensions that narrow what a certificate is good for: no genuine one has them, so none is half honoured.
_NARROWING = {
    bytes.fromhex("551d1e"): "nameConstraints",
    bytes.fromhex("551d24"): "policyConstraints",
    bytes.fromhex("551d36"): "inhibitAnyPolicy",
    bytes.fromhex("551d25"): "extKeyUsage",
}
_AUTHORITY_POLICY = verification.ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, verification.Criticality.CRITICAL, None
)
_LEAF_POLICY = verification.ExtensionPolicy.permit_all()


class ChainError(CloisterError):
    """The chain fails the check of the given name, one of CHAIN_CHECKS."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


def validate_chain(
    leaf: bytes, cabundle: Sequence[bytes], roots: Sequence[x509.Certificate], at: datetime
) -> tuple[x509.Certificate, ...]:
    """Return the chain, root first and leaf last, or raise ChainError naming the check that failed.

    ``cabundle`` has the order of a document's: root first. Fractions of a second in ``at`` are dropped:
    validity is inclusive to the second (RFC 5280, section 4.1.2.5).
    """
    if not 1 <= len(cabundle) <= MAX_BUNDLE:
        _refuse("certificates", f"the CA bundle holds {len(cabundle)} certificates, not 1 to {MAX_BUNDLE}")
    ders = (*cabundle, leaf)
    links = [_parse(der, _title(index, len(ders))) for index, der in enumerate(ders)]
    root = next((root for root in roots if root.public_bytes(Encoding.DER) == cabundle[0]), None)
    if root is None:
        _refuse("root", "the chain does not start at a trusted root")
    for link in links:
        _check_algorithms(link)
    for issuer, link in pairwise(links):
        _check_order(issuer, link)
    for index, link in enumerate(links[:-1]):
        _check_authority(link, below=len(links) - 2 - index, is_root=index == 0)
    _check_leaf(links[-1])
    moment = at.replace(microsecond=0)
    for link in reversed(links):  # the shortest-lived first: its end says most to a reader
        _check_validity(link, moment)
    chain = tuple(link.certificate for link in links)
    _check_signatures(root, chain, moment)
    return chain


@dataclass(frozen=True, slots=True)
class _Link:
    """A certificate as the library reads it, as we do, and what to call it."""

    title: str
    certificate: x509.Certificate
    parts: CertificateParts
    constraints: BasicConstraints | None
    usage: KeyUsage | None


def _refuse(check: str, message: str) -> NoReturn:
    raise ChainError(check, message)


def _title(index: int, count: int) -> str:
    """Name a certificate by its place, in words that do not come from the certificate."""
    if index == count - 1:
        return "the signing certificate"
    return "the root certificate" if index == 0 else f"CA certificate {index}"


def _parse(der: bytes, title: str) -> _Link:
    """Read every part that later checks touch, so that none of them meets a surprise."""
    if not 1 <= len(der) <= MAX_CERTIFICATE:
        _refuse("certificates", f"{title} has {len(der)} bytes, not 1 to {MAX_CERTIFICATE}")
    try:
        parts = CertificateParts.from_bytes(der)
        constraints, usage = parts.extensions.get(_BASIC_CONSTRAINTS), parts.extensions.get(_KEY_USAGE)
        read_constraints = BasicConstraints.from_bytes(constraints[1]) if constraints else None
        read_usage = KeyUsage.from_bytes(usage[1]) if usage else None
        if not parts.inner_algorithm == parts.outer_algorithm == _ECDSA_WITH_SHA384:
            _refuse("algorithms", f"{title} is not signed with ecdsa-with-SHA384, inside and outside")
        certificate = x509.load_der_x509_certificate(der)
        lives = certificate.not_valid_before_utc <= certificate.not_valid_after_utc
    except ValueError as error:
        raise ChainError(
            "certificates", f"{title} is not a well-formed X.509 certificate: {error}"
        ) from error
    if not lives:
        _refuse("certificates", f"{title} ends before it begins")
    return _Link(title, certificate, parts, read_constraints, read_usage)


def _check_algorithms(link: _Link) -> None:
    """Hold key, signature algorithm and extensions to what we implement completely."""
    try:
        key = link.certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        _refuse("algorithms", f"{link.title} does not hold a P-384 key")
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != link.parts.key:
        _refuse("algorithms", f"{link.title} does not hold its key in the one canonical form")
    for oid, (critical, _) in link.parts.extensions.items():
        if critical and oid not in _CRITICAL_KNOWN:
            _refuse("algorithms", f"{link.title} has a critical extension that is unknown ({oid.hex()})")
        if oid in _NARROWING:
            _refuse(
                "algorithms", f"{link.title} has the extension {_NARROWING[oid]}, which has no place here"
            )


def _check_order(issuer: _Link, link: _Link) -> None:
    if link.parts.issuer != issuer.parts.subject:
        _refuse(
            "order", f"{link.title} is not issued by the certificate before it (bundle order: root first)"
        )
    named, held = link.parts.extensions.get(_AUTHORITY_KEY), issuer.parts.extensions.get(_SUBJECT_KEY)
    if named is None or held is None:
        return
    try:
        matches = key_identifier(named[1], of_issuer=True) == key_identifier(held[1], of_issuer=False)
    except DerError:
        matches = False
    if not matches:
        _refuse("order", f"{link.title} names another issuer's key than that of the certificate before it")


def _check_authority(link: _Link, *, below: int, is_root: bool) -> None:
    """Check a certificate with ``below`` further authorities between it and the leaf (RFC 5280, 4.2.1.9)."""
    constraints, usage = link.constraints, link.usage
    if constraints is None or not constraints.ca or not link.parts.extensions[_BASIC_CONSTRAINTS][0]:
        _refuse("authorities", f"{link.title} is not marked as a CA by a critical basicConstraints extension")
    if constraints.path_length is None and not is_root:
        _refuse("authorities", f"{link.title} does not say how many authorities may follow it (pathLen)")
    if constraints.path_length is not None and constraints.path_length < below:
        _refuse(
            "authorities",
            f"{link.title} allows {constraints.path_length} authorities below it, and {below} follow",
        )
    if usage is None or not usage.key_cert_sign:
        _refuse("authorities", f"{link.title} may not sign certificates (keyUsage)")


def _check_leaf(link: _Link) -> None:
    if link.constraints is not None and link.constraints.ca:
        _refuse("leaf", "the signing certificate is marked as a CA (basicConstraints)")
    if link.usage is None or not link.usage.digital_signature or link.usage.key_cert_sign:
        _refuse("leaf", "the signing certificate's keyUsage must allow digitalSignature and not keyCertSign")


def _check_validity(link: _Link, moment: datetime) -> None:
    begins, ends = link.certificate.not_valid_before_utc, link.certificate.not_valid_after_utc
    if moment < begins:
        _refuse("validity", f"{link.title} is not valid before {_text(begins)}; the time is {_text(moment)}")
    if moment > ends:
        _refuse("validity", f"{link.title} expired at {_text(ends)}; the time is {_text(moment)}")


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _check_signatures(root: x509.Certificate, chain: tuple[x509.Certificate, ...], moment: datetime) -> None:
    """Let cryptography build and check the path from the one root, and insist that it is this very chain."""
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([root]))
        .time(moment)
        .extension_policies(ca_policy=_AUTHORITY_POLICY, ee_policy=_LEAF_POLICY)
        .max_chain_depth(MAX_BUNDLE)
        .build_client_verifier()
    )
    leaf_first = list(reversed(chain))
    try:
        verified = verifier.verify(chain[-1], list(chain[1:-1]))
    except verification.VerificationError as error:
        raise ChainError("chain signatures", _explain(chain, error)) from error
    if list(verified.chain) != leaf_first:
        _refuse("chain signatures", "another path than the document's leads to the root")


def _explain(chain: tuple[x509.Certificate, ...], error: Exception) -> str:
    """Say which signature is wrong; only a refused chain pays for this."""
    for index, (issuer, certificate) in enumerate(pairwise(chain)):
        key = issuer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey), "_check_algorithms admits P-384 keys alone"
        try:
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA384()))
        except InvalidSignature:
            return f"{_title(index + 1, len(chain))} is not signed by the certificate before it"
    first_line = str(error).splitlines()[0] if str(error) else "no reason given"
    return f"the path does not validate: {first_line}"
