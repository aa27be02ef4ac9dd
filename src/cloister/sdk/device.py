"""The Nitro Security Module as a program inside the enclave sees it: ``/dev/nsm`` and its one ioctl.

Follows the nsm-api device (spec nitro-tools.md 5.1): ``_IOWR(0x0A, 0, 32)`` with two iovecs, a request of at
most 4096 bytes, a response buffer of 12288. A refusal by the module is an exception that carries its code.
"""

import fcntl
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cloister.errors import CloisterError
from cloister.nsm import (
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
    ModuleDescription,
    PcrExtended,
    PcrLocked,
    PcrsLocked,
    PcrState,
    RandomBytes,
    Refusal,
    Request,
    SignedDocument,
    decode_response,
    encode_request,
)

DEVICE = Path("/dev/nsm")
NSM_IOCTL_RAW = 0xC0200A00
"""``_IOWR(0x0A, 0, struct nsm_raw)`` of Linux's include/uapi/linux/nsm.h."""

_Answer = TypeVar("_Answer")


class NsmError(CloisterError):
    """The security module is absent or refused; ``code`` is the module's own word for why, if it gave one."""

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class NsmDevice:
    """The security module's seven requests as methods; every one raises NsmError when it is refused.

    ``exchange`` takes an encoded request to the module and brings its answer back.
    """

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange

    def describe(self) -> ModuleDescription:
        """Return the module's version, id, and which registers are locked."""
        return self._ask(DescribeNsm(), ModuleDescription)

    def describe_pcr(self, index: int) -> PcrState:
        """Return a register's value and whether it is locked."""
        return self._ask(DescribePcr(index), PcrState)

    def extend(self, index: int, data: bytes) -> bytes:
        """Extend an open register and return its new value, SHA384(old value, data)."""
        return self._ask(ExtendPcr(index, data), PcrExtended).data

    def lock(self, index: int) -> None:
        """Lock a register until the enclave ends."""
        self._ask(LockPcr(index), PcrLocked)

    def lock_range(self, end: int) -> None:
        """Lock registers 0 to ``end`` - 1."""
        self._ask(LockPcrs(end), PcrsLocked)

    def attest(
        self, *, nonce: bytes | None = None, user_data: bytes | None = None, public_key: bytes | None = None
    ) -> bytes:
        """Return a signed attestation document that holds what is given, each at most 1024 bytes."""
        return self._ask(Attest(user_data, nonce, public_key), SignedDocument).document

    def random(self, length: int) -> bytes:
        """Return ``length`` random bytes from the module's generator."""
        gathered = b""
        while len(gathered) < length:
            chunk = self._ask(GetRandom(), RandomBytes).random
            if not chunk:
                raise NsmError("the security module answered a request for randomness with nothing")
            gathered += chunk
        return gathered[:length]

    def _ask(self, request: Request, kind: type[_Answer]) -> _Answer:
        encoded = encode_request(request)
        if len(encoded) > MAX_REQUEST:
            raise NsmError(
                f"a request of {len(encoded)} bytes is longer than the module's {MAX_REQUEST}",
                ErrorCode.INPUT_TOO_LARGE,
            )
        answer = decode_response(self._exchange(encoded))
        name = type(request).__name__
        if isinstance(answer, Refusal):
            raise NsmError(f"the security module refused {name}: {answer.code.value}", answer.code)
        if not isinstance(answer, kind):
            raise NsmError(f"the security module answered {name} with {type(answer).__name__}")
        return answer


@contextmanager
def open_nsm(path: Path = DEVICE) -> Iterator[NsmDevice]:
    """Yield the enclave's security module; NsmError when there is none, as outside an enclave."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise NsmError(f"{path} cannot be opened ({error.strerror}): is this an enclave?") from error
    try:
        yield NsmDevice(lambda request: _ioctl(descriptor, request))
    finally:
        os.close(descriptor)


def attest(
    *, nonce: bytes | None = None, user_data: bytes | None = None, public_key: bytes | None = None
) -> bytes:
    """Return a signed attestation document from ``/dev/nsm``; NsmError when it cannot be had."""
    with open_nsm() as device:
        return device.attest(nonce=nonce, user_data=user_data, public_key=public_key)


def _ioctl(descriptor: int, request: bytes) -> bytes:
    """Put one encoded request to the device; ``array`` lends the addresses, which spares us ``ctypes``."""
    question = array("B", request)
    answer = array("B", bytes(MAX_RESPONSE))
    vectors = array("Q", [*question.buffer_info(), *answer.buffer_info()])
    try:
        fcntl.ioctl(descriptor, NSM_IOCTL_RAW, vectors)
    except OSError as error:
        raise NsmError(f"/dev/nsm refused a request of {len(request)} bytes: {error.strerror}") from error
    length = vectors[3]
    if length > MAX_RESPONSE:
        raise NsmError(f"/dev/nsm claims an answer of {length} bytes, at most {MAX_RESPONSE} fit")
    return answer[:length].tobytes()
