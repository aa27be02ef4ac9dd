"""Where a document comes from: a file, standard input, the command line itself, or the web; raw or as text.

Everything is bounded before it is read, and every failure is one sentence.
"""

import os
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode
from binascii import Error as Base64Error
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cloister.attestation import MAX_DOCUMENT
from cloister.cli.table import plain
from cloister.errors import CloisterError

MAX_TEXT: Final = 4 * MAX_DOCUMENT
"""Bytes of a document written as hex or base64, with line breaks."""
FETCH_SECONDS: Final = 30.0
"""For a whole answer from the web, however slowly it comes."""
FORMS: Final = """A document (DOC) is a file, - for standard input, an http:// or https:// address, or itself,
as hex:... or base64:...; it may be raw, in hexadecimal, in base64 (also URL-safe), quoted as a JSON string,
or in PEM armour."""
_LITERAL = re.compile(r"(hex|base64):(.*)", re.DOTALL)
_ARMOUR = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----(.*)-----END \1-----", re.DOTALL)
_OTHER_ARMOUR = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,48}(?:CERTIFICATE|KEY|REQUEST|CRL))-----")
_IMAGE: Final = b".eif"
_DER: Final = b"\x30\x82"
"""A SEQUENCE of 256 bytes or more: in CBOR a number, with which no document begins."""
_CREDENTIALS = re.compile(r"://[^/?#]*@")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2})+")
_SHOWN: Final = 60
"""Characters of a document's name in an error text."""


def read_document(word: str) -> bytes:
    """Return the document that a word of the command line means; raise CloisterError."""
    if literal := _LITERAL.fullmatch(word):
        return _decode_literal(literal[1], os.fsencode(literal[2]))
    name = f"'{plain(word)}'"
    if address := _ADDRESS.match(word):
        name = _quoted(word)
        if address[1].lower() not in {"http", "https"}:
            raise CloisterError(f"{name} is of a kind that is not fetched: http and https are")
        content = fetch(word)
    else:
        content = _read(word, name)
    if content.startswith(_IMAGE):
        raise CloisterError(f"{name} is an enclave's image (EIF), not an attestation document")
    if len(content) > MAX_TEXT:
        raise CloisterError(f"{name} is larger than any attestation document ({MAX_TEXT} bytes)")
    return decode(content, name)


def decode(content: bytes, name: str) -> bytes:
    """Undo the text form, if it is one: genuine documents begin with 84, or d2 84 when tagged."""
    if not content.isascii():
        if content.startswith(_DER):
            raise CloisterError(f"{name} looks like a certificate in DER, and is no attestation document")
        return content
    text = content.strip()
    if (other := _OTHER_ARMOUR.match(text)) is not None:
        raise CloisterError(f"{name} holds a {other[1].decode()}, not an attestation document")
    if armoured := _ARMOUR.fullmatch(text):
        text = armoured[2]
    elif len(text) > 1 and text[:1] == text[-1:] == b'"':
        text = text[1:-1].replace(b"\\n", b"").replace(b"\\/", b"/")
    text = b"".join(text.split())
    if _HEX.fullmatch(text):
        return bytes.fromhex(text.decode())
    try:
        return _from_base64(text)
    except Base64Error:
        raise CloisterError(f"{name} holds neither a raw document nor one in base64 or hex") from None


def _decode_literal(form: str, text: bytes) -> bytes:
    """Read a document that stands on the command line, in the form that its prefix says."""
    text = b"".join(text.split())
    if not text or len(text) > MAX_TEXT:
        raise CloisterError(f"'{form}:' is followed by {len(text)} characters, not 1 to {MAX_TEXT}")
    try:
        return bytes.fromhex(text.decode()) if form == "hex" else _from_base64(text)
    except ValueError:
        raise CloisterError(f"what follows '{form}:' is not {form}") from None


def _from_base64(text: bytes) -> bytes:
    """Read base64 of either alphabet, padded or not."""
    altchars = b"-_" if re.search(rb"[-_]", text) else None
    return b64decode(text + b"=" * (-len(text) % 4), altchars=altchars, validate=True)


def _read(word: str, name: str) -> bytes:
    try:
        if word == "-":
            return sys.stdin.buffer.read(MAX_TEXT + 1)
        with Path(word).open("rb") as file:
            return file.read(MAX_TEXT + 1)
    except OSError as error:
        raise CloisterError(f"the document {name} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name with a zero byte
        raise CloisterError(f"the document {name} cannot be read: it is no file's name") from error


class _SameSafety(urllib.request.HTTPRedirectHandler):
    """Follow redirects over http and https, and never from https to http."""

    max_redirections = 5

    def redirect_request(self, req: urllib.request.Request, *rest: Any) -> urllib.request.Request | None:
        """Return the request to follow with, or raise CloisterError; the rest is answer, ..., address."""
        new_address = str(rest[-1])
        old, new = urlsplit(req.full_url).scheme, urlsplit(new_address).scheme
        rest[0].close()  # nobody reads its body, which the library would do to the end
        visited = getattr(req, "redirect_dict", {})
        if new_address in visited:
            raise CloisterError(f"{_quoted(req.full_url)} redirects in a circle")
        if len(visited) >= self.max_redirections:
            raise CloisterError(f"{_quoted(req.full_url)} redirects once more, after {len(visited)} times")
        if _CREDENTIALS.search(new_address):
            raise CloisterError(f"{_quoted(req.full_url)} redirects to an address with a password")
        if new not in {"http", "https"} or (old, new) == ("https", "http"):
            raise CloisterError(
                f"{_quoted(req.full_url)} redirects to {_quoted(new_address)}, which is not followed"
            )
        return super().redirect_request(req, *rest)


def _quoted(address: str) -> str:
    """Return an address for an error text: shortened, without a password or what could drive a terminal."""
    return f"'{plain(_CREDENTIALS.sub('://...@', address)[:_SHOWN])}'"


def fetch(url: str, *, seconds: float = FETCH_SECONDS) -> bytes:
    """Return what an address answers with, at most one byte too many; raise CloisterError.

    In a thread of its own, which is left behind when time is up: each read's own limit would let a server
    that sends a byte now and then hold on for ever.
    """
    if _CREDENTIALS.search(url):
        raise CloisterError(f"{_quoted(url)} holds a user's name or password, which is not sent")
    if not url.isascii():
        raise CloisterError(f"{_quoted(url)} holds characters that an address has in percent-encoding alone")
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise CloisterError(f"{_quoted(url)} cannot be fetched: {plain(str(error))[:200]}") from error
    outcome: list[bytes | CloisterError] = []
    worker = threading.Thread(target=_fetch, args=(url, seconds, outcome), daemon=True)
    worker.start()
    worker.join(seconds)
    if not outcome:
        raise CloisterError(f"{_quoted(url)} did not answer within {seconds:g} s")
    if isinstance(outcome[0], CloisterError):
        raise outcome[0]
    return outcome[0]


def _fetch(url: str, seconds: float, outcome: list[bytes | CloisterError]) -> None:
    """Fetch and leave the answer, or why there is none, in ``outcome``."""
    shown = _quoted(url)
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),  # verifies the server's certificate, as by default
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SameSafety(),
    ):
        opener.add_handler(handler)
    deadline = time.monotonic() + seconds
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "cloister"})  # noqa: S310 -- no file:
        with opener.open(request, timeout=seconds) as answer:
            content = b""
            while len(content) <= MAX_TEXT and time.monotonic() < deadline:
                piece = answer.read1(MAX_TEXT + 1 - len(content))
                if not piece:
                    break
                content += piece
        if time.monotonic() < deadline:
            outcome.append(content)
    except CloisterError as error:
        outcome.append(error)
    except urllib.error.HTTPError as error:
        error.close()
        outcome.append(CloisterError(f"{shown} answers {error.code}, and 200 was expected"))
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        outcome.append(CloisterError(f"{shown} cannot be fetched: {plain(str(reason)[:200])}"))
