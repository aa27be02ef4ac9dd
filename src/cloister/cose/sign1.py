"""COSE_Sign1: one statement, one signature, over the bytes as they were received.

RFC 9052 section 4.2 and RFC 9053 section 2.1 with ES256, ES384 and ES512, each bound to its curve, as AWS's
tools use them (``nitro-tools.md`` sections 2.3 and 5.4). Written without tag, read with tag 18 or none.
Not here: detached payloads, other headers than the algorithm, COSE_Sign.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from cloister.cose.cbor import CborError, decode_cbor, encode_cbor
from cloister.errors import CloisterError

ALGORITHM_HEADER = 1  # RFC 9052, section 3.1
_TAG_SIGN1 = b"\xd2"  # tag 18, RFC 9052, section 2


class CoseError(CloisterError):
    """The envelope is malformed, or its signature does not hold."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A COSE signature algorithm as RFC 9053 table 1 has it, bound to one curve (section 2.1 allows more)."""

    name: str
    identifier: int
    curve: str
    hash: hashes.HashAlgorithm
    size: int
    """Bytes of r and of s."""


ALGORITHMS = (
    Algorithm("ES256", -7, "secp256r1", hashes.SHA256(), 32),
    Algorithm("ES384", -35, "secp384r1", hashes.SHA384(), 48),
    Algorithm("ES512", -36, "secp521r1", hashes.SHA512(), 66),
)
_BY_CURVE = {algorithm.curve: algorithm for algorithm in ALGORITHMS}
_BY_IDENTIFIER = {algorithm.identifier: algorithm for algorithm in ALGORITHMS}


SignDigest = Callable[[bytes], bytes]
"""Given a digest, returns an ECDSA signature over it: r and s side by side, each as long as the order."""


@dataclass(frozen=True, slots=True)
class Sign1:
    """The four parts of a COSE_Sign1, the signed ones as raw bytes."""

    protected: bytes
    unprotected: dict[Any, Any]
    payload: bytes
    signature: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an envelope, tagged 18 or not; raise CoseError (RFC 9052, section 4.2)."""
        try:
            parts = decode_cbor(data[1:] if data[:1] == _TAG_SIGN1 else data)
        except CborError as error:
            raise CoseError(f"the COSE_Sign1 envelope is not valid CBOR: {error}") from error
        match parts:
            case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
                return cls(protected, unprotected, payload, signature)
        raise CoseError("a COSE_Sign1 is an array of a byte string, a map, and two byte strings")

    def to_bytes(self) -> bytes:
        """Return the envelope untagged, as Nitro writes it."""
        return encode_cbor([self.protected, self.unprotected, self.payload, self.signature])

    @classmethod
    def sign(
        cls, payload: bytes, private_key: ec.EllipticCurvePrivateKey, *, deterministic: bool = False
    ) -> Self:
        """Sign with the algorithm that belongs to the key's curve; raise CoseError for other curves.

        ``deterministic``: the same signature for the same payload and key (RFC 6979), if OpenSSL has it.
        """
        algorithm = _algorithm_of(private_key.curve)
        protected = encode_cbor({ALGORITHM_HEADER: algorithm.identifier})
        scheme = ec.ECDSA(algorithm.hash)
        if deterministic:
            with suppress(UnsupportedAlgorithm):  # OpenSSL before 3.2
                scheme = ec.ECDSA(algorithm.hash, deterministic_signing=True)
        der = private_key.sign(_to_be_signed(protected, payload), scheme)
        r, s = decode_dss_signature(der)
        raw = r.to_bytes(algorithm.size, "big") + s.to_bytes(algorithm.size, "big")
        return cls(protected, {}, payload, raw)

    @classmethod
    def sign_elsewhere(cls, payload: bytes, curve: ec.EllipticCurve, sign_digest: SignDigest) -> Self:
        """Have a key sign that is not at hand, such as one on a token; raise CoseError.

        What comes back is not verified here.
        """
        algorithm = _algorithm_of(curve)
        protected = encode_cbor({ALGORITHM_HEADER: algorithm.identifier})
        digest = hashes.Hash(algorithm.hash)
        digest.update(_to_be_signed(protected, payload))
        return cls(protected, {}, payload, sign_digest(digest.finalize()))

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the protected header, which must hold nothing else; raises CoseError."""
        try:
            header = decode_cbor(self.protected)
        except CborError as error:
            raise CoseError(f"the protected header is not valid CBOR: {error}") from error
        if not isinstance(header, dict) or set(header) != {ALGORITHM_HEADER}:
            raise CoseError("the protected header must hold the algorithm and nothing else")
        identifier = header[ALGORITHM_HEADER]
        algorithm = None if isinstance(identifier, bool | list | dict) else _BY_IDENTIFIER.get(identifier)
        if algorithm is None:
            raise CoseError("the protected header's algorithm is not ES256, ES384 or ES512")
        return algorithm

    def verify(self, public_key: ec.EllipticCurvePublicKey) -> None:
        """Check the signature over the bytes as received; raise CoseError."""
        algorithm = self.algorithm
        if algorithm is not _algorithm_of(public_key.curve):
            raise CoseError(
                f"the envelope says {algorithm.name}, which is not for a {public_key.curve.name} key"
            )
        size = 2 * algorithm.size
        if len(self.signature) != size:
            raise CoseError(
                f"an {algorithm.name} signature is {size} bytes (r, s), not {len(self.signature)}"
            )
        r, s = (int.from_bytes(half, "big") for half in _halves(self.signature))
        signed = _to_be_signed(self.protected, self.payload)
        try:
            public_key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(algorithm.hash))
        except InvalidSignature as error:
            raise CoseError("the COSE signature does not match the signer's key") from error


def _halves(signature: bytes) -> tuple[bytes, bytes]:
    middle = len(signature) // 2
    return signature[:middle], signature[middle:]


def _algorithm_of(curve: ec.EllipticCurve) -> Algorithm:
    algorithm = _BY_CURVE.get(curve.name)
    if algorithm is None:
        raise CoseError(f"there is no COSE algorithm here for a {curve.name} key: use P-256, P-384 or P-521")
    return algorithm


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure with an empty external_aad (RFC 9052, section 4.4)."""
    return encode_cbor(["Signature1", protected, b"", payload])
