"""A root's key on a token: SoftHSM makes it, signs with it and never gives it away."""

import builtins
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.attestation import Expected, sign, verify
from cloister.cli.main import main
from cloister.packages import PackageError
from cloister.trust import (
    PIN_VARIABLE,
    InFile,
    OnToken,
    Trust,
    TrustError,
    establish,
    look,
    make_root,
    open_trust,
    rotate_root,
    take_offline,
)
from cloister.trust.token import TokenKey, TokenUri, make_token_key
from simulators.power_loss import HOST, MODULE_ID, NOW, REGION
from simulators.soft_token import LABEL, PIN, SoftToken, make_token

PCRS = {0: b"\x01" * 48}


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> SoftToken:
    """Return a token with a PIN and nothing else on it."""
    try:
        return make_token(tmp_path_factory.mktemp("softhsm"))
    except PackageError as error:
        pytest.skip(f"SoftHSM cannot be had: {error}")


def made(directory: Path, uri: str, span: timedelta | None = None) -> Trust:
    """Make a root of trust whose key is on the token."""
    establish(directory, HOST, lambda: make_root(OnToken(uri), region=REGION, now=NOW, span=span), NOW)
    return open_trust(directory)


def check(trust: Trust, now: datetime) -> None:
    """Issue credentials, sign, and verify under the root."""
    credentials = trust.enclave_credentials(MODULE_ID, now)
    document = sign(credentials, module_id=MODULE_ID, now=now, pcrs=PCRS)
    verify(document, roots=[trust.root_certificate], now=now, expect=Expected(pcrs=PCRS))


def test_documents_of_a_root_on_a_token_verify(token: SoftToken, tmp_path: Path) -> None:
    """The token signs the root and its authorities, now and when they are renewed; no file has its key."""
    trust = made(tmp_path, token.uri("documents"), timedelta(days=28))
    trust.root_certificate.verify_directly_issued_by(trust.root_certificate)
    assert trust.root_certificate.signature_hash_algorithm is not None
    assert trust.root_certificate.signature_hash_algorithm.name == "sha384"
    for days in (0, 27, 40, 400):
        check(trust, NOW + timedelta(days=days))
    content = (tmp_path / "root.key").read_bytes()
    assert b"PRIVATE KEY" not in content
    assert PIN.encode() not in content
    overview = look(tmp_path, NOW)
    assert overview.token == token.uri("documents")


def test_the_key_cannot_leave_the_token(token: SoftToken) -> None:
    """It is generated there, sensitive and not extractable, and reading its value is refused."""
    import pkcs11

    key = make_token_key(token.uri("kept"), lambda _: PIN)
    library = pkcs11.lib(str(token.module))
    with library.get_token(token_label=LABEL).open(user_pin=PIN) as session:
        private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="kept")
        assert private[pkcs11.Attribute.SENSITIVE]
        assert not private[pkcs11.Attribute.EXTRACTABLE]
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            private[pkcs11.Attribute.VALUE]
    for read in (key.private_bytes, key.private_numbers, key.exchange):
        with pytest.raises(TrustError):
            read()


def test_a_key_that_is_there_is_used(token: SoftToken) -> None:
    """An interrupted init goes on with the key it had generated."""
    first = make_token_key(token.uri("again"), lambda _: PIN)
    assert make_token_key(token.uri("again"), lambda _: PIN).public_key() == first.public_key()


def test_signatures_are_verified_before_they_are_used(token: SoftToken) -> None:
    """A token that holds another key than the certificate says is found out at the first signature."""
    make_token_key(token.uri("one"), lambda _: PIN)
    other = make_token_key(token.uri("two"), lambda _: PIN)
    impostor = TokenKey(token.uri("one"), other.public_key(), lambda _: PIN)
    with pytest.raises(TrustError, match="'one' on the token is not the one in the root's certificate"):
        impostor.sign(b"text", ec.ECDSA(hashes.SHA384()))
    with pytest.raises(TrustError, match="SHA-384 and nothing else"):
        other.sign(b"text", ec.ECDSA(hashes.SHA256()))


def test_a_token_can_be_unplugged(token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With authorities issued ahead a host serves without its token, and says so when they run out."""
    trust = made(tmp_path, token.uri("unplugged"))
    with pytest.raises(TrustError, match="stays there: name no file"):
        take_offline(tmp_path, tmp_path / "file", NOW)
    until = take_offline(tmp_path, None, NOW, span=timedelta(days=100))
    path = tmp_path / "root.key"
    path.write_bytes(path.read_bytes().replace(b"token=cloister%20test", b"token=gone"))
    check(trust, until)
    with pytest.raises(TrustError, match="there is no token 'gone'"):
        trust.enclave_credentials(MODULE_ID, until + timedelta(hours=1))


def test_a_root_moves_onto_a_token_and_off_it(token: SoftToken, trust: Trust) -> None:
    """Rotation leads from a file to a token, to another object there, and back."""
    for home in (OnToken(token.uri("moved")), OnToken(token.uri("moved-2")), InFile()):
        rotate_root(trust.directory, lambda home=home: make_root(home, region=REGION, now=NOW), NOW)  # type: ignore[misc]
        check(open_trust(trust.directory), NOW)
    assert look(trust.directory, NOW).token is None


def test_the_pin_comes_from_file_environment_or_person(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URI's file goes first, then the environment, then whoever is asked; else the ways are named."""

    def ask(name: str) -> str:
        asked.append(name)
        return "asked"

    asked: list[str] = []
    monkeypatch.setenv(PIN_VARIABLE, "from-environment")
    assert TokenUri.parse(token.uri("x")).pin(ask) == PIN
    assert TokenUri.parse(token.uri("x", pin=False)).pin(ask) == "from-environment"
    monkeypatch.delenv(PIN_VARIABLE)
    assert TokenUri.parse(token.uri("x", pin=False)).pin(ask) == "asked"
    assert asked == [LABEL]
    with pytest.raises(TrustError, match=f"name a file as the URI's pin-source, or set {PIN_VARIABLE}"):
        make_root(OnToken(token.uri("x", pin=False)), region=REGION, now=NOW)


def test_a_wrong_pin_is_tried_once_and_told_to_nobody(token: SoftToken) -> None:
    """The refusal names neither PIN, and warns, because tokens lock themselves."""
    with pytest.raises(TrustError, match=r"refuses the PIN: .* lock themselves") as refused:
        make_token_key(token.uri("x", pin=False), lambda _: "135792")
    assert "135792" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("pkcs11:", "not a PKCS#11 URI such as"),
        ("pkcs11:token=a object=b?module-path=/x.so", "not a PKCS#11 URI such as"),
        ("pkcs11:token=a;object=b", "must have token"),
        ("pkcs11:object=b?module-path=/x.so", "must have token"),
        ("pkcs11:token=a;object=b?module-path=/x.so&pin-value=1234", "a PIN has no place in a URI"),
        ("pkcs11:token=a;token=b;object=b?module-path=/x.so", "'token' is not understood"),
        ("pkcs11:token=a;slot-id=3;object=b?module-path=/x.so", "'slot-id' is not understood"),
        ("pkcs11:token=a;pin%2Dvalue=1234;object=b?module-path=/x.so", "'pin%2Dvalue' is not understood"),
        ("pkcs11:token=a;object=b?module-path=/x.so&pin=1234", "'pin' is not understood"),
        ("pkcs11:token=a;object=b;type=public?module-path=/x.so", "type 'public': expected private"),
        ("pkcs11:token=a;object=b?module-path=/x.so&pin-source=|cat", "is not a file: expected file:/PATH"),
        ("pkcs11:token=a;object=b?module-path=/none.so&pin-source=/dev/null", "cannot be used"),
        ("pkcs11:token=a;object=b?module-path=/x.so&pin-source=file:/none", "'/none' cannot be read"),
    ],
)
def test_a_uri_that_says_too_little_is_refused(uri: str, reason: str) -> None:
    """Each refusal names the part, and no PIN that was in it."""
    with pytest.raises(TrustError, match=reason) as refused:
        make_root(OnToken(uri), region=REGION, now=NOW)
    assert "1234" not in str(refused.value)


def test_uris_are_decoded() -> None:
    """Percent signs and the file: forms are read as RFC 7512 and RFC 8089 have them."""
    found = TokenUri.parse(
        "pkcs11:object=a%20b;id=%01%ff;serial=7?module-path=/l%C3%BC.so&pin-source=file:///p"
    )
    assert (found.label, found.key_id, found.serial, found.token) == ("a b", b"\x01\xff", "7", None)
    assert (found.module, found.pin_source) == ("/l\u00fc.so", Path("/p"))


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the optional package its name and its extra are told."""
    genuine = builtins.__import__

    def importing(name: str, *arguments: object, **options: object) -> object:
        if name == "pkcs11":
            raise ImportError(name)
        return genuine(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(TrustError, match=r"python-pkcs11: pip install 'cloister\[pkcs11\]'"):
        make_token_key("pkcs11:token=a;object=b?module-path=/x.so", lambda _: "1")


def test_the_command_makes_a_root_on_a_token(
    token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Init, show, regional rotation and taking offline work with the PIN from the environment."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv(PIN_VARIABLE, PIN)
    uri = token.uri("command", pin=False)
    assert main(["pki", "init", "--key", uri, "--for", "30d"]) == 0
    assert main(["pki", "init", "--key", uri]) == 0
    assert main(["pki", "rotate", "--level", "regional", "--for", "60d"]) == 0
    assert main(["pki", "take-offline"]) == 0
    assert main(["pki", "show"]) == 0
    shown = capsys.readouterr()
    assert f"on a token, {uri}" in shown.out
    assert PIN not in shown.out + shown.err
    assert main(["pki", "rotate", "--key", uri]) == 1
    assert main(["pki", "init", "--key", "file"]) == 1
    assert "another object" in capsys.readouterr().err
    pki = tmp_path / "cloister/pki"
    check(open_trust(pki), datetime.now(UTC))
    assert all(x509.load_pem_x509_certificates(path.read_bytes()) for path in pki.glob("*.pem"))
