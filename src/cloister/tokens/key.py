"""One key on a token, through python-pkcs11 (PKCS #11 version 2.40): made, looked up, asked to sign.

CKM_ECDSA signs a digest that is made here and answers r and s side by side. Each call is a session of its
own, so that a token can be pulled in between. A call into a token's library cannot be given a time limit.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cloister.tokens.uri import Ask, TokenError, TokenUri

if TYPE_CHECKING:
    import pkcs11

_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True, slots=True)
class KeyOnToken:
    """An elliptic-curve key that is used where it lies; what goes wrong there is a TokenError without PIN."""

    where: TokenUri
    ask: Ask = field(repr=False)
    """Asked for the PIN where neither the URI's pin-source nor the environment has it."""
    variables: tuple[str, ...] = ()
    """Names of the environment variables that may hold the PIN, first choice first."""

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the ECDSA signature over a digest: r and s side by side, as long as the curve's order."""
        with self._session() as session:
            import pkcs11  # noqa: PLC0415 -- optional, and loaded by the session already

            key: Any = self._private_key(session)
            return bytes(key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))

    def public_key(self) -> ec.EllipticCurvePublicKey | None:
        """Make sure that the private key is there; return its public half where the token keeps that too."""
        with self._session() as session:
            import pkcs11  # noqa: PLC0415 -- as above

            key: Any = self._private_key(session)
            if key.key_type != pkcs11.KeyType.EC:
                raise TokenError(f"the key '{self.where.key_name}' on the token is not an elliptic-curve key")
            found = self._objects(session, pkcs11.ObjectClass.PUBLIC_KEY)
            return _load(found[0], self.where) if len(found) == 1 else None

    def make(self, curve: ec.EllipticCurve) -> ec.EllipticCurvePublicKey:
        """Generate the key, never to leave its token, or take the one that is there already."""
        if self.where.label is None:
            raise TokenError("a key to be made needs a name: give the URI an object")
        with self._session(writing=True) as session:
            import pkcs11  # noqa: PLC0415 -- as above
            from pkcs11.util.ec import encode_named_curve_parameters  # noqa: PLC0415

            parameters = encode_named_curve_parameters(curve.name)
            found = self._objects(session, pkcs11.ObjectClass.PUBLIC_KEY)
            if len(found) > 1:
                raise TokenError(
                    f"the token has {len(found)} objects '{self.where.label}': name one by its id"
                )
            public: Any = found[0] if found else self._generate(session, parameters)
            if public[pkcs11.Attribute.EC_PARAMS] != parameters:
                name = _CURVES.get(curve.name, curve.name)
                raise TokenError(f"the object '{self.where.label}' on the token is not a {name} key")
            return _load(public, self.where)

    def _generate(self, session: "pkcs11.Session", parameters: bytes) -> Any:
        import pkcs11  # noqa: PLC0415 -- as above

        names: dict[str, Any] = {"label": self.where.label}
        if self.where.key_id is not None:
            names["id"] = self.where.key_id
        domain = session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: parameters}, local=True
        )
        public, _ = domain.generate_keypair(
            store=True,
            capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
            private_template={pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True},
            **names,
        )
        return public

    def _private_key(self, session: "pkcs11.Session") -> Any:
        import pkcs11  # noqa: PLC0415 -- as above

        keys = self._objects(session, pkcs11.ObjectClass.PRIVATE_KEY)
        if len(keys) != 1:
            raise TokenError(
                f"the token '{self.where.token_name}' has {len(keys)} private keys '{self.where.key_name}': "
                "expected 1"
            )
        return keys[0]

    def _objects(self, session: "pkcs11.Session", kind: Any) -> list[Any]:
        import pkcs11  # noqa: PLC0415 -- as above

        template: dict[Any, Any] = {pkcs11.Attribute.CLASS: kind}
        if self.where.label is not None:
            template[pkcs11.Attribute.LABEL] = self.where.label
        if self.where.key_id is not None:
            template[pkcs11.Attribute.ID] = self.where.key_id
        return list(session.get_objects(template))

    @contextmanager
    def _session(self, *, writing: bool = False) -> Iterator["pkcs11.Session"]:
        """Log in to the token; whatever it complains about becomes one sentence without the PIN."""
        try:
            import pkcs11  # noqa: PLC0415 -- optional
        except ImportError as error:
            raise TokenError(
                "a key on a token needs the Python package python-pkcs11: pip install 'cloister[pkcs11]'"
            ) from error
        where = self.where
        pin = where.pin(self.ask, *self.variables)
        try:
            with self._token(pkcs11.lib(where.module)).open(rw=writing, user_pin=pin) as session:
                yield session
        except pkcs11.PinIncorrect:
            raise TokenError(
                "the token refuses the PIN: look before you try again, tokens lock themselves"
            ) from None
        except (RuntimeError, OSError) as error:  # PKCS11Error is a RuntimeError, and so is a failing dlopen
            what = str(error) or re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
            raise TokenError(f"the token '{where.token_name}' cannot be used: {what}") from None

    def _token(self, library: Any) -> Any:
        where = self.where
        names = {"token_label": where.token, "token_serial": (where.serial or "").encode() or None}
        found = [
            token
            for token in library.get_tokens(**{name: value for name, value in names.items() if value})
            if where.manufacturer in (None, token.manufacturer_id) and where.model in (None, token.model)
        ]
        if not found:
            raise TokenError(f"there is no token '{where.token_name}' in {where.module}")
        if len(found) > 1:
            raise TokenError(
                f"{where.module} has {len(found)} tokens '{where.token_name}': name one by its serial"
            )
        return found[0]


def _load(public: Any, where: TokenUri) -> ec.EllipticCurvePublicKey:
    from pkcs11.util.ec import encode_ec_public_key  # noqa: PLC0415 -- as above

    try:
        key = load_der_public_key(encode_ec_public_key(public))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TokenError(f"the object '{where.key_name}' on the token is not an elliptic-curve key")
    return key
