"""Signature Version 4: agrees with botocore's signer, refuses everything else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from cloister.aws import Fault, Request, derive_key, read_authorization, sign, verify

ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
BODY = b'{"KeyId":"alias/x"}'


def check(request: Request, *, now: datetime = NOW, region: str = "us-east-1", service: str = "kms") -> None:
    authorization = read_authorization(request)
    key = derive_key(SECRET, authorization.date, authorization.region, authorization.service)
    verify(request, authorization, key, region=region, service=service, now=now)


def signed(
    body: bytes = BODY, path: str = "/", query: str = "", headers: dict[str, str] | None = None
) -> Request:
    named = {"host": "localhost:8000", "content-type": "application/x-amz-json-1.1", **(headers or {})}
    request = Request("POST", path, query, tuple(named.items()), body)
    return sign(request, access_key=ACCESS, secret_key=SECRET, region="us-east-1", service="kms", now=NOW)


def without(request: Request, name: str) -> Request:
    return replace(request, headers=tuple(h for h in request.headers if h[0] != name))


def with_header(request: Request, name: str, value: str) -> Request:
    return replace(without(request, name), headers=(*without(request, name).headers, (name, value)))


def by_botocore(
    path: str, query: str, headers: dict[str, str], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> Request:
    """Sign with botocore at the fixed time and return the request as it would go over the wire."""
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: NOW.replace(tzinfo=None))
    url = f"http://localhost:8000{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method="POST", url=url, headers={}, data=body)
    for name, value in headers.items():
        request.headers[name] = value
    SigV4Auth(Credentials(ACCESS, SECRET), "kms", "us-east-1").add_auth(request)
    wire = [(name, value) for name, value in request.headers.items()]
    return Request("POST", path, query, (*wire, ("Host", "localhost:8000")), body)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/", ""),
        ("/a/b", "Param2=value2&Param1=value1"),
        ("/a%20b/%C3%A9", "a=b%20c&a=a"),
        ("/a/../b/./c//d/", "x"),
        ("/~user/-._", "k=-._~"),
    ],
)
def test_verifies_what_botocore_signs(path: str, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, queries and headers with odd spacing, signed by botocore, verify."""
    headers = {"X-Amz-Target": "TrentService.Decrypt", "X-Amz-Meta-Odd": "  a   b  "}
    check(by_botocore(path, query, headers, BODY, monkeypatch))


@pytest.mark.parametrize("body", [b"", BODY, bytes(range(256))])
def test_signs_what_botocore_signs(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our client and botocore's compute one and the same signature."""
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.Decrypt"}
    theirs = by_botocore("/", "", headers, body, monkeypatch)
    ours = signed(body, headers={"x-amz-target": "TrentService.Decrypt"})
    assert read_authorization(ours) == read_authorization(theirs)


def test_get_vanilla_of_the_public_test_suite() -> None:
    """The signature of AWS's published example ``get-vanilla`` comes out."""
    request = Request("GET", "/", "", (("host", "example.amazonaws.com"),), b"")
    moment = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    done = sign(
        request, access_key=ACCESS, secret_key=SECRET, region="us-east-1", service="service", now=moment
    )
    expected = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    assert read_authorization(done).signature == expected


@given(
    body=st.binary(max_size=64),
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), max_size=20),
    query=st.text(st.sampled_from("abz&=%2F~ +"), max_size=20),
)
def test_what_is_signed_verifies(body: bytes, path: str, query: str) -> None:
    """Any path, query and body that we sign, we verify."""
    check(signed(body, "/" + path, query))


GOOD = signed(headers={"x-amz-target": "TrentService.Decrypt"})
AUTHORIZATION = GOOD.header("authorization") or ""


MISSING, INCOMPLETE = "MissingAuthenticationTokenException", "IncompleteSignatureException"
INVALID = "InvalidSignatureException"
MISMATCH = "does not match the signature you provided"


def authorized(old: str, new: str) -> Request:
    return with_header(GOOD, "authorization", AUTHORIZATION.replace(old, new))


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (without(GOOD, "authorization"), MISSING, "Missing Authentication Token"),
        (with_header(GOOD, "authorization", "Basic eDp5"), INCOMPLETE, "must begin with"),
        (with_header(GOOD, "authorization", "AWS4-HMAC-SHA256 Credential=a"), INCOMPLETE, "'Signature'"),
        (authorized("/kms/", "/"), INCOMPLETE, "exactly 5"),
        (without(GOOD, "x-amz-date"), INCOMPLETE, "X-Amz-Date"),
        (with_header(GOOD, "x-amz-date", "yesterday"), INCOMPLETE, "basic format"),
        (with_header(GOOD, "x-amz-date", "20261323T120000Z"), INCOMPLETE, "basic format"),
        (with_header(GOOD, "x-amz-date", "20261122T120000Z"), INVALID, "does not match YYYYMMDD"),
        (replace(GOOD, body=BODY + b" "), INVALID, MISMATCH),
        (replace(GOOD, path="/x"), INVALID, MISMATCH),
        (replace(GOOD, query="a=b"), INVALID, MISMATCH),
        (replace(GOOD, method="PUT"), INVALID, MISMATCH),
        (with_header(GOOD, "host", "elsewhere"), INVALID, MISMATCH),
        (with_header(GOOD, "x-amz-target", "TrentService.Encrypt"), INVALID, MISMATCH),
        (with_header(GOOD, "x-amz-added", "1"), INVALID, "must be a 'SignedHeader'"),
        (without(GOOD, "content-type"), INVALID, "absent"),
        (with_header(GOOD, "x-amz-content-sha256", "UNSIGNED-PAYLOAD"), INVALID, "SignedHeader"),
        (authorized("content-type;host;", "content-type;"), INVALID, "'Host' must be"),
        (authorized("us-east-1", "eu-west-1"), INVALID, "valid region"),
        (authorized("/kms/", "/s3/"), INVALID, "correct service"),
        (authorized("aws4_request", "aws5_request"), INVALID, "valid terminator"),
    ],
)
def test_refusals(request_: Request, code: str, text: str) -> None:
    """Each way to be wrong has AWS's code and a text that tells it."""
    with pytest.raises(Fault) as caught:
        check(request_)
    assert caught.value.code == code
    assert text in caught.value.message


def test_unsigned_payload_is_refused_even_when_signed() -> None:
    """A body hash that is not the body's is refused, whatever was signed."""
    with pytest.raises(Fault, match="does not match the signature"):
        check(signed(headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}))


@pytest.mark.parametrize(
    ("offset", "text"),
    [(301, "Signature expired: 20261123T120000Z is now earlier than"), (-301, "Signature not yet current")],
)
def test_five_minutes_and_no_more(offset: int, text: str) -> None:
    """A signature lives for five minutes either side of its date."""
    check(GOOD, now=NOW + timedelta(seconds=300))
    check(GOOD, now=NOW - timedelta(seconds=300))
    with pytest.raises(Fault, match=text):
        check(GOOD, now=NOW + timedelta(seconds=offset))
