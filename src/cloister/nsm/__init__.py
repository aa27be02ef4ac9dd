"""The Nitro Secure Module: its messages, and the state machine that answers them.

The state machine is loaded on first use, for it brings the cryptography along, which the messages, and the
device that carries them, do not need.
"""

from typing import TYPE_CHECKING, Any

from cloister.nsm.messages import (
    DOCUMENT_MAPS,
    MAX_REQUEST,
    MAX_RESPONSE,
    Attest,
    DescribeNsm,
    DescribePcr,
    ErrorCode,
    ExtendPcr,
    GetRandom,
    LockPcr,
    LockPcrs,
    MessageError,
    ModuleDescription,
    NotYetError,
    PcrExtended,
    PcrLocked,
    PcrsLocked,
    PcrState,
    RandomBytes,
    Refusal,
    Request,
    Response,
    SignedDocument,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

if TYPE_CHECKING:
    from cloister.nsm.module import RENEW_BEFORE, Credentials, SecurityModule

__all__ = [
    "DOCUMENT_MAPS",
    "MAX_REQUEST",
    "MAX_RESPONSE",
    "RENEW_BEFORE",
    "Attest",
    "Credentials",
    "DescribeNsm",
    "DescribePcr",
    "ErrorCode",
    "ExtendPcr",
    "GetRandom",
    "LockPcr",
    "LockPcrs",
    "MessageError",
    "ModuleDescription",
    "NotYetError",
    "PcrExtended",
    "PcrLocked",
    "PcrState",
    "PcrsLocked",
    "RandomBytes",
    "Refusal",
    "Request",
    "Response",
    "SecurityModule",
    "SignedDocument",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cloister.nsm import module  # noqa: PLC0415 -- see above

    return getattr(module, name)
