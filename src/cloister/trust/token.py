"""A root key that never leaves its token: named by a PKCS#11 URI, asked for one signature at a time.

Follows RFC 7512 for URIs and PKCS #11 version 2.40 for the rest: CKM_ECDSA signs the SHA-384 digest that is
made here, and answers r and s side by side. Every signature is verified before it is used. The library,
python-pkcs11, is the optional extra ``pkcs11``; the PIN comes from the URI's pin-source, the environment or
whoever can be asked, and is in no message.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote, unquote_to_bytes

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cloister.trust.files import TrustError

if TYPE_CHECKING:
    import pkcs11

PIN_VARIABLE: Final = "CLOISTER_PKCS11_PIN"
MAX_URI: Final = 2000
MAX_PIN: Final = 1024
_KEY_PARTS: Final = frozenset({"token", "serial", "object", "id", "type"})
_QUERY_PARTS: Final = frozenset({"module-path", "pin-source"})
_COORDINATE: Final = 48  # bytes, P-384
_P384: Final = "secp384r1"
_EXAMPLE: Final = "pkcs11:token=cloister;object=root?module-path=/usr/lib/softhsm/libsofthsm2.so"

Pin = Callable[[str], str]
"""Given a token's name, returns its PIN, or raises TrustError."""


def no_pin(token: str) -> str:
    """Ask nobody."""
    raise TrustError(
        f"the token '{token}' needs its PIN: name a file as the URI's pin-source, or set {PIN_VARIABLE}"
    )


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Where a key lies: the library that speaks to the token, the token, and the object on it."""

    text: str
    module: str
    token: str | None
    serial: str | None
    label: str
    key_id: bytes | None
    pin_source: Path | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a PKCS#11 URI; raise TrustError for one that is ambiguous or holds a PIN."""
        if "pin-value" in text:
            raise TrustError(
                f"a PIN has no place in a URI, which everybody can read: use pin-source, or {PIN_VARIABLE}"
            )
        if len(text) > MAX_URI or not re.fullmatch(r"pkcs11:[!-~]+", text, re.ASCII):
            raise TrustError(f"'{text[:80]}' is not a PKCS#11 URI such as {_EXAMPLE}")
        path, _, query = text.removeprefix("pkcs11:").partition("?")
        parts = _attributes(path, ";", _KEY_PARTS) | _attributes(query, "&", _QUERY_PARTS)
        found = {name: unquote(value) for name, value in parts.items()}
        if found.get("type", "private") != "private":
            raise TrustError(f"the URI names an object of type '{found['type']}': expected private")
        if not ("token" in found or "serial" in found) or "object" not in found or "module-path" not in found:
            raise TrustError(
                f"the URI must have token (or serial), object and module-path, such as {_EXAMPLE}"
            )
        source = found.get("pin-source")
        return cls(
            text,
            found["module-path"],
            found.get("token"),
            found.get("serial"),
            found["object"],
            unquote_to_bytes(parts["id"]) if "id" in parts else None,
            _pin_file(source) if source is not None else None,
        )

    def pin(self, ask: Pin) -> str:
        """Return the PIN, from the file that the URI names, the environment, or whoever can be asked."""
        if self.pin_source is None:
            return os.environ.get(PIN_VARIABLE) or ask(self.token or self.serial or "")
        try:
            with self.pin_source.open("r", encoding="utf-8") as file:
                return file.read(MAX_PIN).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TrustError(f"the PIN's file '{self.pin_source}' cannot be read") from error


class TokenKey(ec.EllipticCurvePrivateKey):
    """A P-384 key on a token, as ``cryptography`` wants a private key to look."""

    def __init__(self, uri: str, public_key: ec.EllipticCurvePublicKey, pin: Pin) -> None:
        self.uri = uri
        self._where = TokenUri.parse(uri)
        self._public_key = public_key
        self._pin = pin

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
        digest = hashlib.sha384(data).digest()
        with _session(self._where, self._pin, writing=False) as session:
            raw = _sign(session, self._where, digest)
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
                f"the key '{self._where.label}' on the token is not the one in the root's certificate"
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
    where = TokenUri.parse(uri)
    with _session(where, pin, writing=True) as session:
        import pkcs11  # noqa: PLC0415 -- optional, and loaded by the session already
        from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters  # noqa: PLC0415

        curve = encode_named_curve_parameters(_P384)
        names: dict[str, Any] = {"label": where.label}
        if where.key_id is not None:
            names["id"] = where.key_id
        found = list(session.get_objects(_template(where, pkcs11.ObjectClass.PUBLIC_KEY)))
        if len(found) > 1:
            raise TrustError(f"the token has {len(found)} objects '{where.label}': name one by its id")
        if found:
            public: Any = found[0]
        else:
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: curve}, local=True
            )
            public, _ = parameters.generate_keypair(
                store=True,
                capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
                private_template={pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True},
                **names,
            )
        if public[pkcs11.Attribute.EC_PARAMS] != curve:
            raise TrustError(f"the object '{where.label}' on the token is not a P-384 key")
        point = encode_ec_public_key(public)
    return TokenKey(uri, _load_public(point), pin)


def _load_public(spki: bytes) -> ec.EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415

    key = load_der_public_key(spki)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TrustError("the object on the token is not a P-384 key")
    return key


def _sign(session: "pkcs11.Session", where: TokenUri, digest: bytes) -> bytes:
    import pkcs11  # noqa: PLC0415 -- as above

    keys = list(session.get_objects(_template(where, pkcs11.ObjectClass.PRIVATE_KEY)))
    if len(keys) != 1:
        raise TrustError(f"the token has {len(keys)} private keys '{where.label}': expected 1")
    key: Any = keys[0]
    return bytes(key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))


def _template(where: TokenUri, kind: Any) -> dict[Any, Any]:
    import pkcs11  # noqa: PLC0415 -- as above

    template = {pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.LABEL: where.label}
    if where.key_id is not None:
        template[pkcs11.Attribute.ID] = where.key_id
    return template


@contextmanager
def _session(where: TokenUri, ask: Pin, *, writing: bool) -> Iterator["pkcs11.Session"]:
    """Log in to the token; whatever it complains about becomes one sentence without the PIN."""
    try:
        import pkcs11  # noqa: PLC0415 -- optional
    except ImportError as error:
        raise TrustError(
            "a root key on a token needs the Python package python-pkcs11: pip install 'cloister[pkcs11]'"
        ) from error
    pin = where.pin(ask)
    names = {"token_label": where.token, "token_serial": (where.serial or "").encode() or None}
    try:
        library = pkcs11.lib(where.module)
        token = library.get_token(**{name: value for name, value in names.items() if value})
        with token.open(rw=writing, user_pin=pin) as session:
            yield session
    except pkcs11.PinIncorrect:
        raise TrustError(
            "the token refuses the PIN: look before you try again, tokens lock themselves"
        ) from None
    except pkcs11.NoSuchToken:
        raise TrustError(f"there is no token '{where.token or where.serial}' in {where.module}") from None
    except (RuntimeError, OSError) as error:  # PKCS11Error is a RuntimeError, and so is a failing dlopen
        if isinstance(error, TrustError):
            raise
        what = str(error) or re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
        raise TrustError(f"the token '{where.token or where.serial}' cannot be used: {what}") from None


def _attributes(text: str, separator: str, known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if name not in known or not equals or not value or name in found:
            raise TrustError(
                f"the PKCS#11 URI's '{name[:80]}' is not understood: "  # not its value, which may be a PIN
                f"expected {', '.join(sorted(known))}, each once"
            )
        found[name] = value
    return found


def _pin_file(source: str) -> Path:
    path = re.sub(r"^file:(//(localhost)?(?=/))?", "", source)
    if not path.startswith("/"):
        raise TrustError(f"the URI's pin-source '{source[:80]}' is not a file: expected file:/PATH")
    return Path(path)
