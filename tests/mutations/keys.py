"""Keys and signatures that are the same on every run: scalars from labels, nonces from RFC 6979."""

import hashlib
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister.cose import encode_cbor
from mutations.der_tree import wrap

# SEC 2, section 2.5.1
ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
ES384 = bytes.fromhex("a1013822")
ECDSA_WITH_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_DETERMINISTIC = ec.ECDSA(hashes.SHA384(), deterministic_signing=True)


@cache
def key_of(label: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-384 key of a label."""
    scalar = int.from_bytes(hashlib.sha512(label.encode()).digest(), "big") % (ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP384R1())


@cache
def rsa_spki(label: str, bits: int = 2048) -> bytes:
    """Return an RSA public key nobody can decrypt for: a label's modulus, odd and of full length."""
    modulus = int.from_bytes(hashlib.shake_256(label.encode()).digest(bits // 8), "big") | 1 << bits - 1 | 1
    key = RSAPublicNumbers(65537, modulus).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign_certificate(
    tbs: bytes, key: ec.EllipticCurvePrivateKey, algorithm: bytes = ECDSA_WITH_SHA384
) -> bytes:
    """Return the certificate of these signed fields (RFC 5280, section 4.1)."""
    signature = key.sign(tbs, _DETERMINISTIC)
    return wrap(0x30, tbs + algorithm + wrap(0x03, b"\x00" + signature))


def sign_payload(
    payload: bytes, key: ec.EllipticCurvePrivateKey, protected: bytes = ES384, unprotected: bytes = b"\xa0"
) -> bytes:
    """Return a COSE_Sign1 of any payload under any headers (RFC 9052, section 4.4)."""
    der = key.sign(encode_cbor(["Signature1", protected, b"", payload]), _DETERMINISTIC)
    r, s = decode_dss_signature(der)
    signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    parts = (encode_cbor(protected), unprotected, encode_cbor(payload), encode_cbor(signature))
    return b"\x84" + b"".join(parts)
