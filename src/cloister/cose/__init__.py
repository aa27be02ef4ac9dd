"""CBOR, and COSE_Sign1: the envelope of every signed statement."""

from cloister.cose.cbor import CborError, IndefiniteMap, decode_cbor, encode_cbor
from cloister.cose.sign1 import CoseError, Sign1

__all__ = ["CborError", "CoseError", "IndefiniteMap", "Sign1", "decode_cbor", "encode_cbor"]
