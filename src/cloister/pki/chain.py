"""Validate an attestation chain: pinned root, exact order, constraints, validity to the second, signatures.

RFC 5280 section 6 narrowed to the genuine profile (``kms-and-attestation.md`` sections 3.1, 3.3 and 3.6): our
own checks for everything a reader of that profile can state, and the path and signature check of
``cryptography.x509.verification`` over the very same certificates. Not here: revocation lists, which AWS's
verification procedure leaves out too.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from cloister.errors import CloisterError

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

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_CRITICAL_KNOWN = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
# Extensions that narrow what a certificate is good for: no genuine one has them, so none is half honoured.
_NARROWING = {
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.INHIBIT_ANY_POLICY,
    ExtensionOID.EXTENDED_KEY_USAGE,
}
_AUTHORITY_POLICY = verification.ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, verification.Criticality.CRITICAL, None
)
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)
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
    chain = tuple(_parse(der, _title(index, len(ders))) for index, der in enumerate(ders))
    root = next((root for root in roots if root.public_bytes(Encoding.DER) == cabundle[0]), None)
    if root is None:
        _refuse("root", "the chain does not start at a trusted root")
    for index, certificate in enumerate(chain):
        _check_algorithms(certificate, _title(index, len(chain)))
    for index in range(1, len(chain)):
        _check_order(chain[index - 1], chain[index], _title(index, len(chain)))
    for index, authority in enumerate(chain[:-1]):
        _check_authority(authority, len(chain) - 2 - index, _title(index, len(chain)), is_root=index == 0)
    _check_leaf(chain[-1])
    moment = at.replace(microsecond=0)
    for index in reversed(range(len(chain))):  # the shortest-lived first: its end says most to a reader
        _check_validity(chain[index], moment, _title(index, len(chain)))
    _check_signatures(root, chain, moment)
    return chain


def _refuse(check: str, message: str) -> NoReturn:
    raise ChainError(check, message)


def _title(index: int, count: int) -> str:
    """Name a certificate by its place, in words that do not come from the certificate."""
    if index == count - 1:
        return "the signing certificate"
    return "the root certificate" if index == 0 else f"CA certificate {index}"


def _parse(der: bytes, title: str) -> x509.Certificate:
    """Parse every part that later checks touch, so that none of them meets a surprise."""
    if not 1 <= len(der) <= MAX_CERTIFICATE:
        _refuse("certificates", f"{title} has {len(der)} bytes, not 1 to {MAX_CERTIFICATE}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        for read in (_read_names, x509.Certificate.public_key):
            read(certificate)
        lives = certificate.not_valid_before_utc <= certificate.not_valid_after_utc
    except _UNREADABLE as error:
        raise ChainError(
            "certificates", f"{title} is not a well-formed X.509 certificate: {error}"
        ) from error
    if certificate.version is not x509.Version.v3 or not lives:
        _refuse(
            "certificates", f"{title} is not an X.509 version 3 certificate whose life ends after it begins"
        )
    return certificate


def _read_names(certificate: x509.Certificate) -> int:
    """Make cryptography parse what it parses only when asked."""
    return len(certificate.extensions) + len(certificate.subject.rdns) + len(certificate.issuer.rdns)


def _check_algorithms(certificate: x509.Certificate, title: str) -> None:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        _refuse("algorithms", f"{title} does not hold a P-384 key")
    if (
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        not in certificate.tbs_certificate_bytes
    ):
        _refuse("algorithms", f"{title} does not hold its key in the one canonical form")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        _refuse("algorithms", f"{title} is not signed with ecdsa-with-SHA384")
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _CRITICAL_KNOWN:
            _refuse(
                "algorithms",
                f"{title} has the critical extension {extension.oid.dotted_string}, which is unknown",
            )
        if extension.oid in _NARROWING:
            _refuse(
                "algorithms",
                f"{title} has the extension {extension.oid.dotted_string}, which has no place here",
            )


def _check_order(issuer: x509.Certificate, certificate: x509.Certificate, title: str) -> None:
    if certificate.issuer != issuer.subject:
        _refuse("order", f"{title} is not issued by the certificate before it (CA bundle order: root first)")
    named = _extension(certificate, x509.AuthorityKeyIdentifier)
    held = _extension(issuer, x509.SubjectKeyIdentifier)
    if named and held and named.value.key_identifier != held.value.digest:
        _refuse("order", f"{title} names another issuer's key than that of the certificate before it")


def _check_authority(certificate: x509.Certificate, below: int, title: str, *, is_root: bool) -> None:
    """Check a certificate with ``below`` further authorities between it and the leaf (RFC 5280, 4.2.1.9)."""
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        _refuse("authorities", f"{title} is not marked as a CA by a critical basicConstraints extension")
    path_length = constraints.value.path_length
    if path_length is None and not is_root:
        _refuse("authorities", f"{title} does not say how many authorities may follow it (pathLen)")
    if path_length is not None and path_length < below:
        _refuse("authorities", f"{title} allows {path_length} authorities below it, and {below} follow")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign:
        _refuse("authorities", f"{title} may not sign certificates (keyUsage)")


def _check_leaf(certificate: x509.Certificate) -> None:
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and (constraints.value.ca or constraints.value.path_length is not None):
        _refuse("leaf", "the signing certificate is marked as a CA (basicConstraints)")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.value.digital_signature or usage.value.key_cert_sign:
        _refuse("leaf", "the signing certificate's keyUsage must allow digitalSignature and not keyCertSign")


def _check_validity(certificate: x509.Certificate, moment: datetime, title: str) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if moment < begins:
        _refuse("validity", f"{title} is not valid before {_text(begins)}; the time is {_text(moment)}")
    if moment > ends:
        _refuse("validity", f"{title} expired at {_text(ends)}; the time is {_text(moment)}")


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
    for index in range(1, len(chain)):
        try:
            chain[index].verify_directly_issued_by(chain[index - 1])
        except (InvalidSignature, ValueError, TypeError):
            return f"{_title(index, len(chain))} is not signed by the certificate before it"
    first_line = str(error).splitlines()[0] if str(error) else "no reason given"
    return f"the path does not validate: {first_line}"


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> x509.Extension[_Kind] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
