"""What goes over a supervisor's control socket: one JSON object a line, both ways, bounded.

A private protocol: only its visible effects follow nitro-cli's (nitro-tools 1.6).
"""

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from cloister.errors import CloisterError

DESCRIBE: Final = "describe"
TERMINATE: Final = "terminate"
COMMANDS: Final = frozenset({DESCRIBE, TERMINATE})
MAX_REQUEST: Final = 4096
MAX_REPLY: Final = 2 << 20
"""Bytes: an image's metadata may have 1 MiB (see eif)."""


class ControlError(CloisterError):
    """A message that is not one, or a peer that does not answer."""


class EnclaveFailure(CloisterError):  # noqa: N818 -- it crosses processes: the error is what the command makes of it
    """What went wrong with an enclave, with nitro-cli's code for it."""

    def __init__(
        self, code: str, message: str, *, action: str = "", subactions: Sequence[str] = (), where: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.action = action
        self.subactions = tuple(subactions)
        self.where = where
        """``file:line`` of its root in the supervisor, once it has crossed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants of one enclave."""

    command: str
    metadata: bool = False

    def to_bytes(self) -> bytes:
        """Write one line."""
        return encode_line(asdict(self))

    @classmethod
    def from_bytes(cls, line: bytes) -> "Request":
        """Read one line; raises ControlError."""
        fields = decode_line(line)
        command, metadata = fields.get("command"), fields.get("metadata", False)
        if command not in COMMANDS or not isinstance(metadata, bool):
            raise ControlError(f"A control request asks for {command!r}; expected describe or terminate.")
        return cls(command, metadata)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer: ``status`` 0, or an errno; ``body`` is what the command prints."""

    status: int
    body: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Write one line."""
        return encode_line(asdict(self))

    @classmethod
    def from_bytes(cls, line: bytes) -> "Reply":
        """Read one line; raises ControlError."""
        fields = decode_line(line)
        status, body = fields.get("status"), fields.get("body")
        if not isinstance(status, int) or not isinstance(body, dict):
            raise ControlError("A control reply lacks its status or body.")
        return cls(status, body)


def encode_line(fields: dict[str, Any]) -> bytes:
    """Write a JSON object as one line."""
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def decode_line(line: bytes) -> dict[str, Any]:
    """Read a JSON object from one line; raises ControlError."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("A control message is not JSON.") from None
    if not isinstance(fields, dict):
        raise ControlError("A control message is not a JSON object.")
    return fields


def receive_line(sock: socket.socket, *, limit: int, deadline: float) -> bytes:
    """Read one line of at most ``limit`` bytes until the monotonic ``deadline``; raises ControlError.

    What has come by the deadline is still read after it, without waiting.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        sock.settimeout(max(0.0, deadline - time.monotonic()))
        try:
            chunk = sock.recv(min(65536, limit + 1 - len(line)))
        except (TimeoutError, BlockingIOError):
            raise ControlError("The enclave's supervisor did not answer in time.") from None
        except OSError as error:
            raise ControlError(f"The enclave's supervisor is gone: {error.strerror}.") from None
        if not chunk:
            raise ControlError("The enclave's supervisor closed the connection.")
        line += chunk
        if len(line) > limit:
            raise ControlError(f"A control message is longer than {limit} bytes.")
    return bytes(line)
