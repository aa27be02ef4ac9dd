"""Signature Version 4: sign a request, and verify one.

Follows the IAM User Guide, "Signature Version 4 signing process": canonical request, string to sign, derived
key. Header form only: presigned queries, chunked and unsigned payloads are left out, as KMS has no use for
them. Time is an argument; nothing here keeps secrets or state.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cloister.aws.faults import Fault

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
MAX_SKEW = timedelta(minutes=5)
MAX_AUTHORIZATION = 4096
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request as it went over the wire: path and query raw, headers in order."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's values, trimmed and joined by commas, or None; ``name`` is in lower case."""
        values = [_squeeze(value) for key, value in self.headers if key.lower() == name]
        return ",".join(values) if values else None


@dataclass(frozen=True, slots=True)
class Authorization:
    """The parts of an ``Authorization: AWS4-HMAC-SHA256`` header."""

    access_key: str
    date: str
    region: str
    service: str
    terminator: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        """The credential scope: date, region, service and terminator."""
        return f"{self.date}/{self.region}/{self.service}/{self.terminator}"


def read_authorization(request: Request) -> Authorization:
    """Parse the header; raises Fault MissingAuthenticationToken or IncompleteSignature."""
    value = request.header("authorization")
    if not value:
        raise Fault("MissingAuthenticationTokenException", "Missing Authentication Token")
    scheme, _, rest = value.partition(" ")
    if scheme != ALGORITHM or len(value) > MAX_AUTHORIZATION:
        raise Fault("IncompleteSignatureException", f"Authorization header must begin with '{ALGORITHM}'.")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not parts.get(name)]
    if missing:
        text = " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
        raise Fault("IncompleteSignatureException", text)
    credential = parts["Credential"].split("/")
    if len(credential) != 5 or not all(credential):
        raise Fault(
            "IncompleteSignatureException",
            f"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{parts['Credential']}'",
        )
    key, date, region, service, terminator = credential
    signed = tuple(parts["SignedHeaders"].split(";"))
    return Authorization(key, date, region, service, terminator, signed, parts["Signature"])


def verify(
    request: Request,
    authorization: Authorization,
    signing_key: bytes,
    *,
    region: str,
    service: str,
    now: datetime,
) -> None:
    """Check scope, skew, signed headers, body hash and signature; raises Fault.

    ``signing_key`` is ``derive_key`` of the caller's secret for the authorization's own date.
    """
    stamp = _check_date(request, authorization, now)
    if authorization.region != region:
        raise _invalid(f"Credential should be scoped to a valid region, not '{authorization.region}'. ")
    if authorization.service != service:
        raise _invalid(f"Credential should be scoped to correct service: '{service}'. ")
    if authorization.terminator != TERMINATOR:
        given = authorization.terminator
        raise _invalid(f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{given}'.")
    _check_signed_headers(request, authorization.signed_headers)
    body_hash = hashlib.sha256(request.body).hexdigest()
    claimed = request.header("x-amz-content-sha256")
    if claimed is not None and not hmac.compare_digest(claimed.encode(), body_hash.encode()):
        raise _invalid(_MISMATCH)
    canonical = canonical_request(request, authorization.signed_headers, body_hash)
    expected = _signature(signing_key, canonical, stamp, authorization.scope)
    if not hmac.compare_digest(expected.encode(), authorization.signature.encode()):
        raise _invalid(_MISMATCH)


def sign(
    request: Request,
    *,
    access_key: str,
    secret_key: str,
    region: str,
    service: str,
    now: datetime,
    session_token: str | None = None,
) -> Request:
    """Return the request with X-Amz-Date and Authorization added; every header it has is signed.

    ``host`` must be among its headers.
    """
    stamp = format_date(now)
    added = [("x-amz-date", stamp)]
    if session_token is not None:
        added.append(("x-amz-security-token", session_token))
    dated = replace(request, headers=(*request.headers, *added))
    signed_headers = tuple(sorted({name.lower() for name, _ in dated.headers}))
    scope = f"{stamp[:8]}/{region}/{service}/{TERMINATOR}"
    canonical = canonical_request(dated, signed_headers, hashlib.sha256(request.body).hexdigest())
    signature = _signature(derive_key(secret_key, stamp[:8], region, service), canonical, stamp, scope)
    value = (
        f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={';'.join(signed_headers)}, "
        f"Signature={signature}"
    )
    return replace(dated, headers=(*dated.headers, ("authorization", value)))


def derive_key(secret_key: str, date: str, region: str, service: str) -> bytes:
    """Return the signing key of one secret for one day, region and service; worth keeping for the day."""
    key = b"AWS4" + secret_key.encode()
    for part in (date, region, service, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def canonical_request(request: Request, signed_headers: tuple[str, ...], body_hash: str) -> str:
    """Return the canonical request: what both ends must agree on, byte for byte."""
    values: dict[str, list[str]] = {}
    for name, value in request.headers:
        values.setdefault(name.lower(), []).append(_squeeze(value))
    headers = "".join(f"{name}:{','.join(values.get(name, ()))}\n" for name in signed_headers)
    query = "&".join(sorted(_canonical_pairs(request.query)))
    path = _quote(_normalise(request.path), keep=b"/")
    return "\n".join((request.method, path, query, headers, ";".join(signed_headers), body_hash))


def format_date(moment: datetime) -> str:
    """Return a moment in the form of X-Amz-Date: ISO 8601 basic, UTC, seconds."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _signature(signing_key: bytes, canonical: str, stamp: str, scope: str) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    return hmac.digest(signing_key, text.encode(), "sha256").hex()


def _check_date(request: Request, authorization: Authorization, now: datetime) -> str:
    """Return the request's time stamp once it is fresh and its day is the scope's."""
    stamp = request.header("x-amz-date")
    if stamp is None:
        raise Fault(
            "IncompleteSignatureException",
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        )
    moment = _read_date(stamp)
    if authorization.date != stamp[:8]:
        raise _invalid(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{authorization.date}' != '{stamp[:8]}', from '{stamp}'."
        )
    now = now.replace(microsecond=0)
    if moment < now - MAX_SKEW:
        edge = format_date(now - MAX_SKEW)
        raise _invalid(f"Signature expired: {stamp} is now earlier than {edge} ({format_date(now)} - 5 min.)")
    if moment > now + MAX_SKEW:
        edge = format_date(now + MAX_SKEW)
        raise _invalid(
            f"Signature not yet current: {stamp} is still later than {edge} ({format_date(now)} + 5 min.)"
        )
    return stamp


def _read_date(stamp: str) -> datetime:
    malformed = Fault(
        "IncompleteSignatureException",
        f"Date must be in ISO-8601 'basic format'. Got '{stamp}'. See http://en.wikipedia.org/wiki/ISO_8601",
    )
    if not _DATE.fullmatch(stamp):
        raise malformed
    try:
        return datetime.fromisoformat(stamp)
    except ValueError as error:
        raise malformed from error


def _check_signed_headers(request: Request, signed: tuple[str, ...]) -> None:
    """Insist that host and every x-amz-* header present are signed, and that what is listed is sorted."""
    if list(signed) != sorted(set(signed)) or any(name != name.lower() for name in signed):
        raise _invalid(_MISMATCH)
    present = {name.lower() for name, _ in request.headers}
    needed = {"host"} | {name for name in present if name.startswith("x-amz-")}
    unsigned = sorted(needed - set(signed))
    if unsigned:
        raise _invalid(f"'{unsigned[0].title()}' must be a 'SignedHeader' in the AWS Authorization.")
    absent = sorted(set(signed) - present)
    if absent:
        raise _invalid(f"The signed header '{absent[0]}' is absent from the request.")


def _invalid(message: str) -> Fault:
    return Fault("InvalidSignatureException", message)


def _squeeze(value: str) -> str:
    """Trim a header's value and collapse its inner runs of blanks."""
    return " ".join(value.split())


def _normalise(path: str) -> str:
    """Remove dot segments and doubled slashes (RFC 3986 section 6), keeping a trailing slash."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    tail = "/" if kept and path.endswith(("/", "/.", "/..")) else ""
    return "/" + "/".join(kept) + tail


def _canonical_pairs(query: str) -> Iterator[str]:
    """Yield the query's parameters as ``name=value``, decoded once and encoded by the rule."""
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            yield f"{_quote_raw(name)}={_quote_raw(value)}"


def _quote_raw(text: str) -> str:
    return _quote_bytes(_unquote(text))


def _unquote(text: str) -> bytes:
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode())


def _quote(text: str, *, keep: bytes = b"") -> str:
    return _quote_bytes(text.encode(), keep)


def _quote_bytes(octets: bytes, keep: bytes = b"") -> str:
    """Percent-encode all but the unreserved characters (RFC 3986 section 2.3)."""
    return "".join(chr(o) if o in _UNRESERVED or o in keep else f"%{o:02X}" for o in octets)
