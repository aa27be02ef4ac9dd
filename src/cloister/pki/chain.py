"""Validate an attestation chain: pinned root, exact order, constraints, validity to the second, signatures.

RFC 5280 section 6 narrowed to the genuine profile (``kms-and-attestation.md`` sections 3.1, 3.3 and 3.6),
where a chain is a straight line with one root: nothing has to be searched. Certificates are read twice, by us
(``der``) and by ``cryptography``; what we check is what we read, the keys are those that it read. Not here:
fetching revocation lists, which AWS's procedure leaves out too; the operator's own list is honoured.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.errors import CloisterError
from cloister.pki.cache import CertificateCache
from cloister.pki.der import BasicConstraints, CertificateParts, DerError, KeyUsage, key_identifier
from cloister.pki.link import Link
from cloister.pki.revocation import Revocation

CHAIN_CHECKS = (
    "certificates",  # each parses completely, as X.509 version 3
    "root",  # the bundle starts with a pinned root, byte for byte
    "algorithms",  # P-384 keys, ecdsa-with-SHA384 signatures
    "order",  # each names the one before it as its issuer
    "authorities",  # every certificate but the leaf may issue, to the depth at which it does
    "leaf",  # the leaf may sign and may not issue
    "validity",  # the time lies within every certificate's life
    "chain signatures",  # each is signed by the one before it
    "revocation",  # none is on the operator's list
)
MAX_CERTIFICATE = 1024  # bytes, nsm-api attestation_process.md, section 3.2.2
MAX_BUNDLE = 8  # genuine bundles hold 4; bounds the work a hostile document can ask for

# AlgorithmIdentifiers and object identifiers as DER (RFC 5480, RFC 5280 section 4.2)
_ECDSA_WITH_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_P384_KEY = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")  # before an uncompressed point
_P384_KEY_SIZE = len(_P384_KEY) + 96
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
_ECDSA = ec.ECDSA(hashes.SHA384())
_ROOT_TITLE = "the root certificate"
_ROOTS_READ = 16  # how many roots are kept as they were read
_NO_ROOT = "the chain does not start at a trusted root"


class ChainError(CloisterError):
    """The chain fails the check of the given name, one of CHAIN_CHECKS."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


def validate_chain(
    leaf: bytes,
    cabundle: Sequence[bytes],
    roots: Sequence[x509.Certificate],
    at: datetime,
    *,
    revoked: Collection[Revocation] = (),
    cache: CertificateCache | None = None,
) -> tuple[x509.Certificate, ...]:
    """Return the chain, root first and leaf last, or raise ChainError naming the check that failed.

    ``cabundle`` has the order of a document's: root first. Fractions of a second in ``at``, which must be
    aware, are dropped: validity is inclusive to the second (RFC 5280, section 4.1.2.5). A chain that
    ``cache`` remembers is held once more to a pinned root, every certificate's life, and ``revoked``.
    """
    if not 1 <= len(cabundle) <= MAX_BUNDLE:
        _refuse("certificates", f"the CA bundle holds {len(cabundle)} certificates, not 1 to {MAX_BUNDLE}")
    ders = (*cabundle, leaf)
    chain = None if cache is None else cache.recall(ders)
    known = chain is not None
    if chain is None:
        chain = _read(ders, roots)
    elif not any(root == chain[0].certificate for root in roots):
        _refuse("root", _NO_ROOT)
    moment = at.astimezone(UTC).replace(microsecond=0)
    for link in chain:
        _check_validity(link, moment)
    if not known:
        _check_signatures(chain)
    if revoked:
        _check_revocation(chain, revoked)
    if cache is not None and not known:
        cache.remember(ders, chain)
    return tuple([link.certificate for link in chain])


def _refuse(check: str, message: str) -> NoReturn:
    raise ChainError(check, message)


def _title(index: int, count: int) -> str:
    """Name a certificate by its place, in words that do not come from the certificate."""
    if index == count - 1:
        return "the signing certificate"
    return _ROOT_TITLE if index == 0 else f"CA certificate {index}"


def _read(ders: tuple[bytes, ...], roots: Sequence[x509.Certificate]) -> tuple[Link, ...]:
    """Read a chain and check whatever is true of it at all times.

    Its root is the caller's own object, if it is the same byte for byte; that one is read once for all.
    """
    pinned = next((root for root in roots if _encoded(root) == ders[0]), None)
    first = _parse(ders[0], _ROOT_TITLE) if pinned is None else _read_root(pinned)
    others = [_parse(der, _title(index, len(ders))) for index, der in enumerate(ders[1:], start=1)]
    chain = (first, *others)
    if pinned is None:
        _refuse("root", _NO_ROOT)
    for link in chain:
        _check_algorithms(link)
    for issuer, link in pairwise(chain):
        _check_order(issuer, link)
    for index, link in enumerate(chain[:-1]):
        _check_authority(link, below=len(chain) - 2 - index, is_root=index == 0)
    _check_leaf(chain[-1])
    return chain


@lru_cache(maxsize=_ROOTS_READ)
def _encoded(root: x509.Certificate) -> bytes:
    return root.public_bytes(Encoding.DER)


@lru_cache(maxsize=_ROOTS_READ)
def _read_root(root: x509.Certificate) -> Link:
    """Read a pinned root, of which a verifier has few; what depends on the time is not judged here."""
    return _parse(_encoded(root), _ROOT_TITLE, root)


def _parse(der: bytes, title: str, certificate: x509.Certificate | None = None) -> Link:
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
        certificate = certificate or x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise ChainError(
            "certificates", f"{title} is not a well-formed X.509 certificate: {error}"
        ) from error
    if parts.begins > parts.ends:
        _refuse("certificates", f"{title} ends before it begins")
    return Link(title, certificate, parts, read_constraints, read_usage)


def _check_algorithms(link: Link) -> None:
    """Hold key, signature algorithm and extensions to what we implement completely."""
    info = link.parts.key
    if not (info.startswith(_P384_KEY) and len(info) == _P384_KEY_SIZE):
        _refuse("algorithms", f"{link.title} does not hold a P-384 key in its one canonical form")
    try:
        link.certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ChainError(
            "algorithms", f"{link.title} holds a key that is not a point of the curve P-384"
        ) from error
    for oid, (critical, _) in link.parts.extensions.items():
        if critical and oid not in _CRITICAL_KNOWN:
            _refuse("algorithms", f"{link.title} has a critical extension that is unknown ({oid.hex()})")
        if oid in _NARROWING:
            _refuse(
                "algorithms", f"{link.title} has the extension {_NARROWING[oid]}, which has no place here"
            )


def _check_order(issuer: Link, link: Link) -> None:
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


def _check_authority(link: Link, *, below: int, is_root: bool) -> None:
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


def _check_leaf(link: Link) -> None:
    if link.constraints is not None and link.constraints.ca:
        _refuse("leaf", "the signing certificate is marked as a CA (basicConstraints)")
    if link.usage is None or not link.usage.digital_signature or link.usage.key_cert_sign:
        _refuse("leaf", "the signing certificate's keyUsage must allow digitalSignature and not keyCertSign")


def _check_validity(link: Link, moment: datetime) -> None:
    begins, ends = link.parts.begins, link.parts.ends
    if moment < begins:
        _refuse("validity", f"{link.title} is not valid before {_text(begins)}; the time is {_text(moment)}")
    if moment > ends:
        _refuse("validity", f"{link.title} expired at {_text(ends)}; the time is {_text(moment)}")


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _check_signatures(chain: tuple[Link, ...]) -> None:
    """Check every signature but the root's own, which proves nothing: the root is pinned."""
    for issuer, link in pairwise(chain):
        key = issuer.certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey), "_check_algorithms admits P-384 keys alone"
        try:
            key.verify(link.parts.signature, link.parts.signed, _ECDSA)
        except InvalidSignature as error:
            raise ChainError(
                "chain signatures", f"{link.title} is not signed by the certificate before it"
            ) from error


def _check_revocation(chain: tuple[Link, ...], revoked: Collection[Revocation]) -> None:
    for link in chain:
        if Revocation(link.parts.issuer, link.parts.serial) in revoked:
            _refuse(
                "revocation", f"{link.title} (serial {link.parts.serial:x}) is on the list of revoked ones"
            )
