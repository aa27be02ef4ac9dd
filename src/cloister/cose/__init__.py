"""CBOR, and COSE_Sign1: the envelope of every signed statement.

The envelope is loaded on first use, for it brings the cryptography along, which plain CBOR does not need.
"""

from typing import TYPE_CHECKING, Any

from cloister.cose.cbor import CborError, IndefiniteMap, decode_cbor, encode_cbor

if TYPE_CHECKING:
    from cloister.cose.sign1 import ALGORITHMS, CoseError, Sign1, SignDigest

__all__ = [
    "ALGORITHMS",
    "CborError",
    "CoseError",
    "IndefiniteMap",
    "Sign1",
    "SignDigest",
    "decode_cbor",
    "encode_cbor",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cloister.cose import sign1  # noqa: PLC0415 -- see above

    return getattr(sign1, name)
