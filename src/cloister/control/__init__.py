"""Finding enclaves and talking to their supervisors: messages, the register, the client.

Follows nitro-tools 1.6 in what a user sees; the wire is our own.
"""

from cloister.control.client import NOT_PERMITTED, Answer, ask, ask_all, terminate
from cloister.control.leftovers import mark_children
from cloister.control.messages import (
    DESCRIBE,
    MAX_REPLY,
    MAX_REQUEST,
    TERMINATE,
    ControlError,
    EnclaveFailure,
    Reply,
    Request,
    decode_line,
    encode_line,
    receive_line,
)
from cloister.control.records import Record, Register, Registration

__all__ = [
    "DESCRIBE",
    "MAX_REPLY",
    "MAX_REQUEST",
    "NOT_PERMITTED",
    "TERMINATE",
    "Answer",
    "ControlError",
    "EnclaveFailure",
    "Record",
    "Register",
    "Registration",
    "Reply",
    "Request",
    "ask",
    "ask_all",
    "decode_line",
    "encode_line",
    "mark_children",
    "receive_line",
    "terminate",
]
