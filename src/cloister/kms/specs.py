"""Key specs: what each kind of key may be used for, with which algorithms, and how its material is made.

One row a KeySpec of the API. A row tells the algorithms by key usage, as DescribeKey and GetPublicKey list
them (AWS KMS developer guide, "Key spec reference").
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

SYMMETRIC: Final = "SYMMETRIC_DEFAULT"
ENCRYPT_DECRYPT: Final = "ENCRYPT_DECRYPT"
SIGN_VERIFY: Final = "SIGN_VERIFY"
ALGORITHM_MEMBERS: Final = {ENCRYPT_DECRYPT: "EncryptionAlgorithms", SIGN_VERIFY: "SigningAlgorithms"}
"""Where a key's metadata lists its algorithms, by its usage."""
_SYMMETRIC_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One kind of key."""

    name: str
    algorithms: Mapping[str, tuple[str, ...]]
    """By key usage; a usage that is not here, no key of this kind can have."""
    new_secret: Callable[[], bytes]
    """Makes what the store seals: 32 random bytes, or a private key in PKCS #8 (DER)."""


def _elliptic(curve: ec.EllipticCurve) -> bytes:
    return ec.generate_private_key(curve).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


SPECS: Final = {
    spec.name: spec
    for spec in (
        KeySpec(SYMMETRIC, {ENCRYPT_DECRYPT: (SYMMETRIC,)}, partial(secrets.token_bytes, _SYMMETRIC_SIZE)),
        KeySpec("ECC_NIST_P256", {SIGN_VERIFY: ("ECDSA_SHA_256",)}, partial(_elliptic, ec.SECP256R1())),
        KeySpec("ECC_NIST_P384", {SIGN_VERIFY: ("ECDSA_SHA_384",)}, partial(_elliptic, ec.SECP384R1())),
        KeySpec("ECC_NIST_P521", {SIGN_VERIFY: ("ECDSA_SHA_512",)}, partial(_elliptic, ec.SECP521R1())),
    )
}
"""Every spec this service makes keys of."""
