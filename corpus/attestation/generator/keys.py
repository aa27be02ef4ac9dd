"""Keys that follow from the seed, and signatures that follow from key and message (RFC 6979)."""

import hashlib
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

SEED = "cloister attestation corpus, 1"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
"""The order n of P-384's group (SEC 2, section 2.5.1)."""


def digest(name: str, size: int) -> bytes:
    """Return bytes that follow from the seed and a name."""
    return hashlib.shake_256(f"{SEED}/{name}".encode()).digest(size)


@cache
def key(name: str, curve: type[ec.EllipticCurve] = ec.SECP384R1) -> ec.EllipticCurvePrivateKey:
    """Return the private key of a name."""
    scalar = int.from_bytes(digest(f"key/{curve.name}/{name}", 31), "big") + 1  # less than any order here
    return ec.derive_private_key(scalar, curve())


@cache
def sign_der(
    signer: ec.EllipticCurvePrivateKey, message: bytes, algorithm: type[hashes.HashAlgorithm]
) -> bytes:
    """Return the one DER signature of a message."""
    return signer.sign(message, ec.ECDSA(algorithm(), deterministic_signing=True))


def sign_raw(
    signer: ec.EllipticCurvePrivateKey, message: bytes, algorithm: type[hashes.HashAlgorithm]
) -> bytes:
    """Return the same as COSE has it: r and s, each as long as the curve's order (RFC 9053, section 2.1)."""
    r, s = decode_dss_signature(sign_der(signer, message, algorithm))
    size = (signer.curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
