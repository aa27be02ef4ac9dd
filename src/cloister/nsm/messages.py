"""The seven requests of the Nitro Secure Module and their answers, as CBOR, for both ends.

Follows ``nitro-tools.md`` section 5.2: a request without fields is a text, any other a map of one name to a
map of fields in declaration order. Readers are as lenient as AWS's: unknown fields are ignored, absent
optional ones are null, texts serve as bytes, and lengths need not be minimal; duplicates, tags and trailing
bytes are refused. As there, whatever is not one of the seven requests has one answer, InvalidOperation.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from cloister.cose import CborError, decode_cbor, encode_cbor
from cloister.errors import CloisterError

MAX_REQUEST = 0x1000  # bytes (nitro-tools.md, section 5.1)
MAX_RESPONSE = 0x3000  # bytes, likewise
_MAX_DEPTH = 4
_MAX_NUMBER = 0xFFFF  # indices and ranges are u16 in AWS's types

DOCUMENT_MAPS = ("indefinite", "definite")
"""How a document's payload map is written: as AWS since June 2025, and as before (section 5.4)."""


class ErrorCode(Enum):
    """The module's error codes by their names on the wire."""

    INVALID_ARGUMENT = "InvalidArgument"
    INVALID_INDEX = "InvalidIndex"
    INVALID_RESPONSE = "InvalidResponse"
    READ_ONLY_INDEX = "ReadOnlyIndex"
    INVALID_OPERATION = "InvalidOperation"
    BUFFER_TOO_SMALL = "BufferTooSmall"
    INPUT_TOO_LARGE = "InputTooLarge"
    INTERNAL_ERROR = "InternalError"


class MessageError(CloisterError):
    """The bytes are not a message of the module; ``code`` is the error it answers to such a request."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotYetError(CloisterError):
    """The request cannot be answered yet: what its answer needs is being made."""


@dataclass(frozen=True, slots=True)
class DescribePcr:
    """Ask for a register's value and whether it is locked."""

    index: int


@dataclass(frozen=True, slots=True)
class ExtendPcr:
    """Extend an open register."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LockPcr:
    """Lock one register."""

    index: int


@dataclass(frozen=True, slots=True)
class LockPcrs:
    """Lock registers 0 to ``range`` - 1."""

    range: int


@dataclass(frozen=True, slots=True)
class DescribeNsm:
    """Ask for the module's version, id, registers and digest."""


@dataclass(frozen=True, slots=True)
class Attest:
    """Ask for a signed document (``Attestation`` on the wire)."""

    user_data: bytes | None = None
    nonce: bytes | None = None
    public_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class GetRandom:
    """Ask for random bytes."""


Request = DescribePcr | ExtendPcr | LockPcr | LockPcrs | DescribeNsm | Attest | GetRandom


@dataclass(frozen=True, slots=True)
class PcrState:
    """Answer to DescribePcr."""

    lock: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class PcrExtended:
    """Answer to ExtendPcr: the new value."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PcrLocked:
    """Answer to LockPcr."""


@dataclass(frozen=True, slots=True)
class PcrsLocked:
    """Answer to LockPcrs."""


@dataclass(frozen=True, slots=True)
class ModuleDescription:
    """Answer to DescribeNsm."""

    version_major: int
    version_minor: int
    version_patch: int
    module_id: str
    max_pcrs: int
    locked_pcrs: tuple[int, ...]
    digest: str = "SHA384"


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """Answer to Attest."""

    document: bytes


@dataclass(frozen=True, slots=True)
class RandomBytes:
    """Answer to GetRandom."""

    random: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to any request that cannot be met (``Error`` on the wire)."""

    code: ErrorCode


Response = (
    PcrState
    | PcrExtended
    | PcrLocked
    | PcrsLocked
    | ModuleDescription
    | SignedDocument
    | RandomBytes
    | Refusal
)

# Each message's name on the wire and its fields in declaration order, with the type each must have.
_Fields = dict[str, type | tuple[type, ...]]
_OPTIONAL_BYTES = (bytes, type(None))
_REQUESTS: dict[str, tuple[type[Request], _Fields]] = {
    "DescribePCR": (DescribePcr, {"index": int}),
    "ExtendPCR": (ExtendPcr, {"index": int, "data": bytes}),
    "LockPCR": (LockPcr, {"index": int}),
    "LockPCRs": (LockPcrs, {"range": int}),
    "DescribeNSM": (DescribeNsm, {}),
    "Attestation": (
        Attest,
        {"user_data": _OPTIONAL_BYTES, "nonce": _OPTIONAL_BYTES, "public_key": _OPTIONAL_BYTES},
    ),
    "GetRandom": (GetRandom, {}),
}
_RESPONSES: dict[str, tuple[type[Response], _Fields]] = {
    "DescribePCR": (PcrState, {"lock": bool, "data": bytes}),
    "ExtendPCR": (PcrExtended, {"data": bytes}),
    "LockPCR": (PcrLocked, {}),
    "LockPCRs": (PcrsLocked, {}),
    "DescribeNSM": (
        ModuleDescription,
        {
            "version_major": int,
            "version_minor": int,
            "version_patch": int,
            "module_id": str,
            "max_pcrs": int,
            "locked_pcrs": list,
            "digest": str,
        },
    ),
    "Attestation": (SignedDocument, {"document": bytes}),
    "GetRandom": (RandomBytes, {"random": bytes}),
}
_REQUEST_NAMES = {kind: name for name, (kind, _) in _REQUESTS.items()}
_RESPONSE_NAMES = {kind: name for name, (kind, _) in _RESPONSES.items()}


def encode_request(request: Request) -> bytes:
    """Return a request's bytes."""
    name = _REQUEST_NAMES[type(request)]
    return _encode(name, request, _REQUESTS[name][1])


def decode_request(data: bytes) -> Request:
    """Read a request; raise MessageError with the code that the module answers."""
    if len(data) > MAX_REQUEST:
        raise MessageError(
            ErrorCode.INPUT_TOO_LARGE, f"a request has at most {MAX_REQUEST} bytes, not {len(data)}"
        )
    name, fields = _open(data)
    if name not in _REQUESTS:
        raise MessageError(ErrorCode.INVALID_OPERATION, "the request's name is unknown")
    kind, types = _REQUESTS[name]
    return kind(**_checked(fields, types, ErrorCode.INVALID_OPERATION))


def encode_response(response: Response) -> bytes:
    """Return an answer's bytes."""
    if isinstance(response, Refusal):
        return encode_cbor({"Error": response.code.value})
    name = _RESPONSE_NAMES[type(response)]
    return _encode(name, response, _RESPONSES[name][1])


def decode_response(data: bytes) -> Response:
    """Read an answer, a refusal included; raise MessageError if it is none."""
    if len(data) > MAX_RESPONSE:
        raise MessageError(
            ErrorCode.INVALID_RESPONSE, f"an answer has at most {MAX_RESPONSE} bytes, not {len(data)}"
        )
    name, fields = _open(data)
    if name == "Error" and isinstance(fields, str) and fields in _CODES:
        return Refusal(ErrorCode(fields))
    if name not in _RESPONSES:
        raise MessageError(ErrorCode.INVALID_RESPONSE, "the answer's name is unknown")
    kind, types = _RESPONSES[name]
    values = _checked(fields, types, ErrorCode.INVALID_RESPONSE)
    if kind is ModuleDescription:
        values["locked_pcrs"] = tuple(values["locked_pcrs"])
        if not all(type(index) is int for index in values["locked_pcrs"]):
            raise MessageError(ErrorCode.INVALID_RESPONSE, "the answer's locked_pcrs are not all numbers")
    return kind(**values)


_CODES = {code.value for code in ErrorCode}


def _encode(name: str, message: Request | Response, types: _Fields) -> bytes:
    if not types:
        return encode_cbor(name)
    values = {field: getattr(message, field) for field in types}
    return encode_cbor({name: values})


def _open(data: bytes) -> tuple[str, Any]:
    """Return a message's name and its fields, None when it has none."""
    try:
        value = decode_cbor(data, max_depth=_MAX_DEPTH, minimal=False)
    except CborError as error:
        raise MessageError(ErrorCode.INVALID_OPERATION, f"the message is not CBOR: {error}") from error
    if isinstance(value, str):
        return value, None
    if isinstance(value, dict) and len(value) == 1:
        name, fields = next(iter(value.items()))
        if isinstance(name, str):
            return name, fields
    raise MessageError(ErrorCode.INVALID_OPERATION, "a message is a name, or a map of one name to its fields")


def _checked(fields: Any, types: _Fields, code: ErrorCode) -> dict[str, Any]:
    """Return the known fields with their values; raise MessageError for a wrong or missing one."""
    if not types:
        if fields is None:
            return {}
        raise MessageError(code, "a message without fields has some")
    if not isinstance(fields, dict):
        raise MessageError(code, "the message's fields are not a map")
    return {name: _value(name, fields.get(name), kind, code) for name, kind in types.items()}


def _value(name: str, value: Any, kind: type | tuple[type, ...], code: ErrorCode) -> Any:
    if isinstance(value, str) and kind in (bytes, _OPTIONAL_BYTES) and code is ErrorCode.INVALID_OPERATION:
        return value.encode()  # a request's; answers are ours
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise MessageError(code, f"the message's field '{name}' is missing or of a wrong type")
    if isinstance(value, int) and kind is int and not 0 <= value <= _MAX_NUMBER:
        raise MessageError(code, f"the message's field '{name}' is not a number from 0 to {_MAX_NUMBER}")
    return value
