"""A root key that never leaves its token, as ``cryptography`` wants a private key to look.

Finding the token and signing there is ``tokens``'s; here are the root's rules: P-384, SHA-384, and no
signature that was not verified under the root's certificate is used.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cloister.tokens import Ask, KeyOnToken, TokenError, TokenUri
from cloister.trust.files import TrustError

PIN_VARIABLE: Final = "CLOISTER_PKCS11_PIN"
_COORDINATE: Final = 48  # bytes, P-384

Pin = Ask
"""Given a token's name, returns its PIN, or raises TrustError."""


def no_pin(token: str) -> str:
    """Ask nobody."""
    raise TrustError(
        f"the token '{token}' needs its PIN: name a file as the URI's pin-source, or set {PIN_VARIABLE}"
    )


class TokenKey(ec.EllipticCurvePrivateKey):
    """A P-384 key on a token."""

    def __init__(self, uri: str, public_key: ec.EllipticCurvePublicKey, pin: Pin) -> None:
        self.uri = uri
        self._key = _key_at(uri, pin)
        self._public_key = public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve, P-384."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """The size in bits, 384."""
        return self.curve.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public half."""
        return self._public_key

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """Return an ECDSA signature over the data's SHA-384 digest, in DER; raise TrustError."""
        if not isinstance(signature_algorithm.algorithm, hashes.SHA384):
            raise TrustError("the root's key signs with ECDSA over SHA-384 and nothing else")
        with _told():
            raw = self._key.sign_digest(hashlib.sha384(data).digest())
        if len(raw) != 2 * _COORDINATE:
            raise TrustError(
                f"the token answered a signature of {len(raw)} bytes: expected {2 * _COORDINATE}"
            )
        halves = (int.from_bytes(part, "big") for part in (raw[:_COORDINATE], raw[_COORDINATE:]))
        signature = encode_dss_signature(*halves)
        try:
            self._public_key.verify(signature, data, ec.ECDSA(hashes.SHA384()))
        except InvalidSignature as error:
            raise TrustError(
                f"the key '{self._key.where.key_name}' on the token is not the one in the root's certificate"
            ) from error
        return signature

    def exchange(self, *_: Any) -> bytes:
        """Refuse: a root's key signs certificates."""
        raise TrustError("a root's key on a token agrees on no secrets")

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        """Refuse: the key does not leave its token."""
        raise TrustError("a key on a token cannot be read")

    def private_bytes(self, *_: Any) -> bytes:
        """Refuse: the key does not leave its token."""
        raise TrustError("a key on a token cannot be read")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        return self


def make_token_key(uri: str, pin: Pin) -> TokenKey:
    """Generate the key that a URI names, never to leave the token, or take the one that is there already."""
    key = _key_at(uri, pin)
    with _told():
        public_key = key.make(ec.SECP384R1())
    return TokenKey(uri, public_key, pin)


def _key_at(uri: str, pin: Pin) -> KeyOnToken:
    with _told():
        return KeyOnToken(TokenUri.parse(uri), pin, (PIN_VARIABLE,))


@contextmanager
def _told() -> Iterator[None]:
    """Let what a token complains about be the root of trust's complaint."""
    try:
        yield
    except TokenError as error:
        raise TrustError(error.message) from error
