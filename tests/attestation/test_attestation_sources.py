"""Where documents come from: files, standard input, the command line, the web; each in several forms."""

import io
import ssl
import threading
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cloister.cli.attestation.sources import MAX_TEXT, fetch, read_document
from cloister.errors import CloisterError

DOCUMENT = bytes.fromhex("8444a1013822a0") + bytes(range(256)) * 4
ARMOURED = b"-----BEGIN ATTESTATION DOCUMENT-----\n%s-----END ATTESTATION DOCUMENT-----\n"
FORMS = {
    "raw": DOCUMENT,
    "hex": DOCUMENT.hex().encode(),
    "hex in lines": b"\n".join(DOCUMENT.hex().encode()[i : i + 64] for i in range(0, 4096, 64)),
    "base64": b64encode(DOCUMENT),
    "wrapped base64": encodebytes(DOCUMENT),
    "unpadded base64": b64encode(DOCUMENT).rstrip(b"="),
    "URL-safe base64": urlsafe_b64encode(DOCUMENT),
    "JSON string": b'"%s"\n' % b64encode(DOCUMENT),
    "JSON string with escapes": b'"%s"' % encodebytes(DOCUMENT).replace(b"\n", b"\\n").replace(b"/", b"\\/"),
    "armour": ARMOURED % encodebytes(DOCUMENT),
    "armour around hex": ARMOURED % DOCUMENT.hex().encode(),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_every_form_is_read_from_every_source(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: "Site"
) -> None:
    """A file, standard input and a web server may hold the document raw or as text."""
    path = tmp_path / "document"
    path.write_bytes(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    site.pages["/document"] = content
    assert read_document(str(path)) == read_document("-") == read_document(f"{site.url}/document") == DOCUMENT


def test_the_command_line_itself_may_hold_the_document() -> None:
    """hex: and base64: say in which form it follows, and a wrong form is refused, not guessed."""
    assert read_document(f"hex:{DOCUMENT.hex()}") == DOCUMENT
    assert read_document(f"base64:{b64encode(DOCUMENT).decode()}") == DOCUMENT
    assert read_document("base64:84d2") == bytes.fromhex("f38776"), "valid as hex too, but not asked for"
    for word, reason in (
        ("hex:abc", "what follows 'hex:' is not hex"),
        ("hex:zz", "not hex"),
        ("base64:a", "not base64"),
        ("base64:\udcff", "not base64"),
        ("hex:", "0 characters, not 1 to"),
        ("hex:" + "00" * MAX_TEXT, "characters, not 1 to"),
    ):
        with pytest.raises(CloisterError, match=reason):
            read_document(word)


def test_what_is_no_file_is_one_sentence(tmp_path: Path) -> None:
    """Names that no file can have, and those that would drive a terminal, are refused and spelled out."""
    for word, reason in (
        ("a\0b", r"'a\\x00b' cannot be read: it is no file's name"),
        ("\x1b[2J", r"'\\x1b\[2J' cannot be read: No such file"),
        (str(tmp_path), "Is a directory"),
    ):
        with pytest.raises(CloisterError, match=reason):
            read_document(word)


class Site:
    """A web server of this host: pages by path; a page that is a text is a redirect to it."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.pages: dict[str, bytes | str] = {}
        self.silence = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = site.pages.get(self.path)
                if self.path == "/drip":
                    self.send_response(200)
                    self.end_headers()
                    while not site.silence.wait(0.02):
                        try:
                            self.wfile.write(b"0")
                        except OSError:
                            return
                elif self.path == "/flood":  # a redirect, with a body that never ends
                    self.send_response(302)
                    self.send_header("Location", "/document")
                    self.end_headers()
                    try:
                        while not site.silence.is_set():
                            self.wfile.write(bytes(1 << 16))
                    except OSError:
                        return
                elif isinstance(page, str):
                    self.send_response(302)
                    self.send_header("Location", page)
                    self.end_headers()
                elif page is None:
                    self.send_error(404)
                else:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(page)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def serve(made: Site) -> Iterator[Site]:
    """Serve pages until the test is over."""
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.silence.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve pages, without any proxy in between."""
    monkeypatch.setenv("no_proxy", "*")
    with serve(Site()) as made:
        yield made


@pytest.fixture
def own_certificate(tmp_path: Path) -> Path:
    """Make a certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return path


def test_tls_servers_are_verified(
    own_certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that nobody vouches for is refused; one that is vouched for may not send us to plain http."""
    monkeypatch.setenv("no_proxy", "*")
    with serve(Site(own_certificate)) as made:
        made.pages |= {"/document": DOCUMENT, "/down": "http://127.0.0.1:1/document"}
        with pytest.raises(CloisterError, match="certificate verify failed"):
            read_document(f"{made.url}/document")
        monkeypatch.setenv("SSL_CERT_FILE", str(own_certificate))
        assert read_document(f"{made.url}/document") == DOCUMENT
        with pytest.raises(CloisterError, match="redirects to 'http://127"):
            read_document(f"{made.url}/down")


def test_the_web_may_redirect_but_not_elsewhere(site: Site) -> None:
    """Redirects to other pages are followed, those to files or round in circles are not."""
    site.pages |= {"/document": DOCUMENT, "/moved": "/document", "/file": "file:///etc/passwd"}
    site.pages |= {f"/many/{step}": f"/many/{step + 1}" for step in range(9)}
    site.pages["/secret"] = "http://user:word@127.0.0.1/"
    site.pages |= {"/round": "/round", "/ftp": "ftp://127.0.0.1/document"}
    assert read_document(f"{site.url}/moved") == DOCUMENT
    for page, reason in (
        ("/file", "answers 302, and 200 was expected"),
        ("/ftp", "redirects to 'ftp://127.0.0.1/document', which is not followed"),
        ("/round", "redirects in a circle"),
        ("/many/0", "redirects once more, after 5 times"),
        ("/secret", "redirects to an address with a password"),
        ("/absent", "answers 404, and 200 was expected"),
    ):
        with pytest.raises(CloisterError, match=reason):
            read_document(site.url + page)


def test_a_redirect_s_body_is_not_read(site: Site) -> None:
    """A redirect with an endless body is followed at once, and its body fills no memory."""
    site.pages["/document"] = DOCUMENT
    assert fetch(f"{site.url}/flood") == DOCUMENT


def test_the_web_may_not_answer_too_much_or_too_slowly(site: Site) -> None:
    """An answer is read up to the limit only, and a server that drips bytes is left when time is up."""
    site.pages["/large"] = bytes([0x84]) * (10 * MAX_TEXT)
    assert len(fetch(f"{site.url}/large")) == MAX_TEXT + 1
    with pytest.raises(CloisterError, match="larger than any attestation document"):
        read_document(f"{site.url}/large")
    with pytest.raises(CloisterError, match=r"did not answer within 0\.2 s"):
        fetch(f"{site.url}/drip", seconds=0.2)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://", "http://[", "https://127.0.0.1:1/", "http://a b/"]
)
def test_addresses_that_lead_nowhere_are_one_sentence(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, or it is no address."""
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(CloisterError, match="cannot be fetched"):
        fetch(url)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("http://127.0.0.1:99999/", "cannot be fetched: Port out of range"),
        ("http://127.0.0.1/\xe9", "has in percent-encoding alone"),
        ("https://user:word@127.0.0.1/a", r"'https://\.\.\.@127.0.0.1/a' holds a user's name or password"),
        ("file:///etc/passwd", "is of a kind that is not fetched"),
        ("FTP://127.0.0.1/document", "is of a kind that is not fetched"),
    ],
)
def test_addresses_that_are_not_fetched_are_told(word: str, reason: str) -> None:
    """What cannot be an address, or holds a secret, is refused before anything is sent, and not repeated."""
    with pytest.raises(CloisterError, match=reason) as caught:
        read_document(word)
    assert "word@" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "holds a CERTIFICATE, not",
        ),
        (
            b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
            "holds a PRIVATE KEY, not",
        ),
        (bytes.fromhex("30820200") + bytes(512), "looks like a certificate in DER"),
        (b".eif" + bytes(10 * MAX_TEXT), r"is an enclave's image \(EIF\), not an attestation document"),
    ],
    ids=["certificate", "key", "DER", "image"],
)
def test_what_else_was_meant_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    """A certificate, a key or an image in the document's place is told by its kind."""
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(CloisterError, match=reason):
        read_document(str(path))
