"""Images signed by a PKCS#11 token: SoftHSM keeps the key, and only digests and signatures pass."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.build import Signer, sign_image
from cloister.eif import SignatureError
from cloister.errors import CloisterError
from cloister.signers import MODULE_VARIABLE, PIN_VARIABLE, open_signer
from cloister.tokens import KeyOnToken, TokenUri
from simulators.openssl_check import openssl_check
from simulators.signing_keys import issued
from simulators.soft_token import PIN, SoftToken


def nobody(token: str) -> str:
    raise CloisterError(f"there is no terminal to ask for the PIN of {token} at")


def make_key(token: SoftToken, directory: Path, label: str, curve: ec.EllipticCurve | None = None) -> str:
    """Make a key on the token and write its certificate; return the key's URI, without its PIN."""
    public_key = KeyOnToken(TokenUri.parse(token.uri(label)), nobody).make(curve or ec.SECP384R1())
    (directory / "certificate.pem").write_bytes(issued(public_key))
    return token.uri(label, pin=False)


def opened(directory: Path, uri: str) -> Signer:
    return open_signer(directory / "certificate.pem", uri, now=datetime.now(UTC), ask=nobody)


@pytest.mark.parametrize(
    "curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=["P-256", "P-384", "P-521"]
)
def test_a_token_signs_images(
    token: SoftToken, image: Path, tmp_path: Path, curve: ec.EllipticCurve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PIN and module from the environment, the token makes a signature that OpenSSL accepts."""
    uri = make_key(token, tmp_path, f"images-{curve.name}", curve).partition("?")[0]
    monkeypatch.setenv(PIN_VARIABLE, PIN)
    monkeypatch.setenv(MODULE_VARIABLE, str(token.module))
    measured = sign_image(image, opened(tmp_path, uri))
    assert openssl_check(image) == {"PCR0": measured.pcr0, "PCR8": measured.pcr8}


def test_what_cannot_sign_is_found_when_it_is_opened(
    token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No PIN, a wrong one, no such token, key or module, and another's key: a sentence each, without PINs."""
    make_key(token, tmp_path, "other")
    uri = make_key(token, tmp_path, "mine")
    with pytest.raises(SignatureError, match="there is no terminal to ask"):
        opened(tmp_path, uri)
    monkeypatch.setenv(PIN_VARIABLE, "135792")
    with pytest.raises(SignatureError, match="the token refuses the PIN") as refused:
        opened(tmp_path, uri)
    assert "135792" not in str(refused.value)
    monkeypatch.setenv(PIN_VARIABLE, PIN)
    for named, sentence in {
        uri.replace("cloister%20test", "elsewhere"): "there is no token 'elsewhere'",
        uri.replace("object=mine", "object=yours"): "has 0 private keys 'yours'",
        uri.partition("?")[0] + "?module-path=/none.so": "cannot be used",
        uri.partition("?")[0]: "must have token .* and module-path",
        uri.replace("object=mine", "object=other"): "does not belong to the signing certificate",
    }.items():
        with pytest.raises(SignatureError, match=sentence) as refused:
            opened(tmp_path, named)
        assert str(refused.value).count("\n") == 0
        assert str(refused.value).endswith(".")


def test_a_key_without_a_public_half_is_known_by_its_signature(
    token: SoftToken, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the private object is on the token, another's key is found out as soon as it signs."""
    import pkcs11

    uri = make_key(token, tmp_path, "half")
    monkeypatch.setenv(PIN_VARIABLE, PIN)
    library = pkcs11.lib(str(token.module))
    with library.get_token(token_label="cloister test").open(rw=True, user_pin=PIN) as session:
        session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label="half").destroy()
    sign_image(image, opened(tmp_path, uri))
    before = image.read_bytes()
    (tmp_path / "certificate.pem").write_bytes(issued(ec.generate_private_key(ec.SECP384R1()).public_key()))
    stranger = opened(tmp_path, uri)
    with pytest.raises(SignatureError, match="does not belong to the signing certificate: its signature"):
        sign_image(image, stranger)
    assert image.read_bytes() == before
