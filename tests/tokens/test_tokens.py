"""Keys on tokens: their URIs, their PINs, and signatures on every curve, by SoftHSM."""

import builtins
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from cloister.tokens import KeyOnToken, TokenError, TokenUri
from simulators.soft_token import LABEL, PIN, SoftToken


def key_on(token: SoftToken, label: str) -> KeyOnToken:
    return KeyOnToken(TokenUri.parse(token.uri(label)), lambda _: "nobody is asked")


@pytest.mark.parametrize(
    ("curve", "digest"),
    [(ec.SECP256R1(), hashes.SHA256()), (ec.SECP384R1(), hashes.SHA384()), (ec.SECP521R1(), hashes.SHA512())],
    ids=["P-256", "P-384", "P-521"],
)
def test_each_curve_signs_digests(
    token: SoftToken, curve: ec.EllipticCurve, digest: hashes.HashAlgorithm
) -> None:
    """The signature is r and s of the curve's length, and verifies under the key that the token tells."""
    key = key_on(token, f"digests-{curve.name}")
    public_key = key.make(curve)
    assert key.public_key() == public_key
    assert public_key.curve.name == curve.name
    hashed = hashlib.new(digest.name, b"message").digest()
    raw = key.sign_digest(hashed)
    size = (curve.key_size + 7) // 8
    assert len(raw) == 2 * size
    der = encode_dss_signature(int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big"))
    public_key.verify(der, hashed, ec.ECDSA(Prehashed(digest)))


def test_what_is_not_there_is_named(token: SoftToken) -> None:
    """A key, a token, a maker and a curve that are not there are each one sentence."""
    key_on(token, "named").make(ec.SECP256R1())
    with pytest.raises(TokenError, match="'cloister test' has 0 private keys 'nothing': expected 1"):
        key_on(token, "nothing").sign_digest(bytes(32))
    with pytest.raises(TokenError, match="'named' on the token is not a P-384 key"):
        key_on(token, "named").make(ec.SECP384R1())
    uri = token.uri("named")
    for changed in (
        uri.replace(f"token={LABEL.replace(' ', '%20')}", "token=elsewhere"),
        uri.replace("pkcs11:", "pkcs11:manufacturer=Nobody;"),
        uri.replace("pkcs11:", "pkcs11:model=none;"),
    ):
        with pytest.raises(TokenError, match="there is no token '"):
            KeyOnToken(TokenUri.parse(changed), lambda _: PIN).public_key()
    whole = uri.replace("pkcs11:", "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;")
    assert KeyOnToken(TokenUri.parse(whole), lambda _: PIN).public_key() is not None


def test_a_key_can_be_named_by_its_id(token: SoftToken) -> None:
    """Two keys of one label are told apart by their ids, and an id alone will do; a new key needs a label."""
    uri = token.uri("twice").replace("object=twice", "object=twice;id=%01")
    first = KeyOnToken(TokenUri.parse(uri), lambda _: PIN).make(ec.SECP256R1())
    second = KeyOnToken(TokenUri.parse(uri.replace("%01", "%02")), lambda _: PIN).make(ec.SECP256R1())
    assert first != second
    with pytest.raises(TokenError, match="has 2 private keys 'twice': expected 1"):
        key_on(token, "twice").sign_digest(bytes(32))
    alone = KeyOnToken(TokenUri.parse(uri.replace("object=twice;", "")), lambda _: PIN)
    assert alone.public_key() == first
    with pytest.raises(TokenError, match="give the URI an object"):
        alone.make(ec.SECP256R1())


def test_the_pin_comes_from_file_environment_or_person(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URI's file goes first, then the environment in order, then whoever is asked."""

    def ask(name: str) -> str:
        asked.append(name)
        return "asked"

    asked: list[str] = []
    monkeypatch.setenv("FIRST", "from-first")
    monkeypatch.setenv("SECOND", "from-second")
    bare = TokenUri.parse(token.uri("x", pin=False))
    assert TokenUri.parse(token.uri("x")).pin(ask, "FIRST") == PIN
    assert bare.pin(ask, "FIRST", "SECOND") == "from-first"
    monkeypatch.setenv("FIRST", "")
    assert bare.pin(ask, "FIRST", "SECOND") == "from-second"
    assert bare.pin(ask) == "asked"
    assert asked == [LABEL]


def test_a_wrong_pin_is_in_no_message(token: SoftToken) -> None:
    """The refusal warns that tokens lock themselves, and does not repeat what was tried."""
    key = KeyOnToken(TokenUri.parse(token.uri("x", pin=False)), lambda _: "135792")
    with pytest.raises(TokenError, match=r"refuses the PIN: .* lock themselves") as refused:
        key.sign_digest(bytes(32))
    assert "135792" not in str(refused.value) + repr(key)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("pkcs11:", "not a PKCS#11 URI such as"),
        ("pkcs11:token=a object=b?module-path=/x.so", "not a PKCS#11 URI such as"),
        ("pkcs11:token=a;object=b", "must have token"),
        ("pkcs11:object=b?module-path=/x.so", "must have token"),
        ("pkcs11:token=a?module-path=/x.so", "must have token"),
        ("pkcs11:token=a;object=b?module-path=/x.so&pin-value=1234", "a PIN has no place in a URI"),
        ("pkcs11:token=a;token=b;object=b?module-path=/x.so", "'token' is not understood"),
        ("pkcs11:token=a;slot-id=3;object=b?module-path=/x.so", "'slot-id' is not understood"),
        ("pkcs11:token=a;object=b?module-path=/x.so&pin=1234", "'pin' is not understood"),
        ("pkcs11:token=a;pin%2Dvalue=1234;object=b?module-path=/x.so", "'pin%2Dvalue' is not understood"),
        ("pkcs11:token=a;object=b;type=public?module-path=/x.so", "type 'public': expected private"),
        ("pkcs11:token=a;object=b?module-path=/x.so&pin-source=|cat", "is not a file: expected file:/PATH"),
        ("pkcs11:token=a;object=b?module-path=/none.so&pin-source=/dev/null", "cannot be used"),
        ("pkcs11:token=a;object=b?module-path=/x.so&pin-source=file:/none", "'/none' cannot be read"),
    ],
)
def test_a_uri_that_says_too_little_is_refused(uri: str, reason: str) -> None:
    """Each refusal names the part, and no PIN that was in it."""
    with pytest.raises(TokenError, match=reason) as refused:
        KeyOnToken(TokenUri.parse(uri), lambda _: PIN).public_key()
    assert "1234" not in str(refused.value)


def test_uris_are_decoded() -> None:
    """Percent signs and the file: forms are read as RFC 7512 and RFC 8089 have them."""
    found = TokenUri.parse(
        "pkcs11:object=a%20b;id=%01%ff;serial=7?module-path=/l%C3%BC.so&pin-source=file:///p", module="/m.so"
    )
    assert (found.label, found.key_id, found.serial, found.token) == ("a b", b"\x01\xff", "7", None)
    assert (found.module, found.pin_source) == ("/l\u00fc.so", Path("/p"))
    assert TokenUri.parse("pkcs11:token=a;object=b", module="/m.so").module == "/m.so"


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the optional package its name and its extra are told."""
    genuine = builtins.__import__

    def importing(name: str, *arguments: object, **options: object) -> object:
        if name == "pkcs11":
            raise ImportError(name)
        return genuine(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(TokenError, match=r"python-pkcs11: pip install 'cloister\[pkcs11\]'"):
        KeyOnToken(TokenUri.parse("pkcs11:token=a;object=b?module-path=/x.so"), lambda _: "1").public_key()
