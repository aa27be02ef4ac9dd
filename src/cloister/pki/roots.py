"""Read the root certificates that a verifier pins."""

from cryptography import x509

from cloister.errors import CloisterError

MAX_ROOTS = 1 << 20  # bytes: some hundred roots with remarks between them
_PEM_MARK = b"-----BEGIN"


class RootsError(CloisterError):
    """The bytes hold no certificate to pin."""


def load_roots(data: bytes) -> tuple[x509.Certificate, ...]:
    """Return every certificate of a PEM text (RFC 7468), or the one in DER; raise RootsError.

    Whoever pins a root should have compared its SHA-256 fingerprint, ``certificate.fingerprint(SHA256())``,
    with one from another source. Whether it may issue is checked with every chain.
    """
    if not isinstance(data, bytes):
        raise RootsError(f"roots are read from the bytes of a file, and {type(data).__name__} was given")
    if len(data) > MAX_ROOTS:
        raise RootsError(f"root certificates in {len(data)} bytes are too many: at most {MAX_ROOTS} are read")
    try:
        if _PEM_MARK in data:
            return tuple(x509.load_pem_x509_certificates(data))
        return (x509.load_der_x509_certificate(data),)
    except ValueError as error:
        raise RootsError("the roots hold no certificate in PEM or DER that can be read") from error
