"""AWS JSON 1.1: one POST an operation, named by a header; results and faults are JSON objects.

Follows the Smithy specification "AWS JSON 1.1 protocol" and what boto3 and the AWS CLI send and accept. Blobs
stay base64 text here: which members are blobs is the service's knowledge.
"""

import json
from typing import Any, NoReturn

from cloister.aws.faults import Fault

CONTENT_TYPE = "application/x-amz-json-1.1"
MAX_FAULT = 65536


def read_target(target: str | None, prefix: str) -> str:
    """Return the operation named by X-Amz-Target; raises Fault UnknownOperationException."""
    service, _, operation = (target or "").partition(".")
    if service != prefix or not operation:
        raise Fault("UnknownOperationException")
    return operation


def decode_body(body: bytes) -> dict[str, Any]:
    """Parse a request's body, an empty one as ``{}``; raises Fault SerializationException."""
    if not body:
        return {}
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        if b"\\ud" in body or b"\\uD" in body:  # a lone surrogate is no text: it could not be written down
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Fault("SerializationException", "The request body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise Fault("SerializationException", "Start of structure or map found where not expected.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def encode_result(result: dict[str, Any]) -> bytes:
    """Serialise an operation's result."""
    return json.dumps(result, separators=(",", ":")).encode()


def encode_fault(fault: Fault) -> bytes:
    """Serialise a fault; the member that names it is ``__type``."""
    return json.dumps({"__type": fault.code, "message": fault.message}, separators=(",", ":")).encode()


def decode_fault(body: bytes, status: int) -> Fault:
    """Read the fault in a response as clients do: a namespace before ``#`` is dropped, Message or message."""
    try:
        value = json.loads(body[:MAX_FAULT])
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("__type"), str):
        return Fault("UnknownError", f"The service answered with status {status} and no readable fault.")
    code = value["__type"].rpartition("#")[2].partition(":")[0]
    message = value.get("message", value.get("Message", ""))
    return Fault(code, message if isinstance(message, str) else "")
