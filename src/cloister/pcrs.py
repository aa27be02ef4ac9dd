"""A bank of platform configuration registers: extend, lock, describe.

Follows the Nitro Secure Module's rules (``nitro-tools.md`` section 5.3): 32 SHA-384 registers, the first 16
locked at boot, an extended register is ``SHA384(old || data)``, and a measured thing's is its hash, extended
into zeros (section 2.2). Measuring an image is the room ``measure``.
"""

import hashlib
from collections.abc import Mapping

from cloister.errors import CloisterError

PCR_COUNT = 32
PCR_SIZE = 48  # bytes, SHA-384
ZERO_PCR = bytes(PCR_SIZE)
LOCKED_AT_BOOT = 16
IMAGE_PCRS = (0, 1, 2)
"""The registers that every image fills, and that are zero in debug mode."""
SIGNER_PCR = 8
"""The register that holds the certificate which signed the image."""


class PcrError(CloisterError):
    """A register was asked for something it cannot do."""


class PcrIndexError(PcrError):
    """There is no register of that number."""


class PcrLockedError(PcrError):
    """The register may no longer change."""


def extend(old: bytes, data: bytes) -> bytes:
    """Return ``SHA384(old || data)``, a register's next value; raise PcrError unless ``old`` is 48 bytes."""
    if len(old) != PCR_SIZE:
        raise PcrError(f"a PCR holds {PCR_SIZE} bytes, not {len(old)}")
    return hashlib.sha384(old + data).digest()


def measure_bytes(data: bytes) -> bytes:
    """Return the register for a file or certificate (DER) alone, as ``nitro-cli pcr`` prints it."""
    return extend(ZERO_PCR, hashlib.sha384(data).digest())


class PcrBank:
    """The registers of one enclave: 0 to 15 locked from the start, 16 to 31 open and zero unless given."""

    __slots__ = ("_locked", "_values")

    def __init__(self, values: Mapping[int, bytes] | None = None) -> None:
        self._values = [ZERO_PCR] * PCR_COUNT
        self._locked = [index < LOCKED_AT_BOOT for index in range(PCR_COUNT)]
        for index, value in (values or {}).items():
            _check_index(index)
            if len(value) != PCR_SIZE:
                raise PcrError(f"PCR{index} holds {PCR_SIZE} bytes, not {len(value)}")
            self._values[index] = bytes(value)

    def describe(self, index: int) -> tuple[bool, bytes]:
        """Return whether the register is locked, and its value; raise PcrIndexError."""
        _check_index(index)
        return self._locked[index], self._values[index]

    def extend(self, index: int, data: bytes) -> bytes:
        """Extend an open register and return its new value; raise PcrIndexError or PcrLockedError."""
        self._check_open(index)
        self._values[index] = extend(self._values[index], data)
        return self._values[index]

    def lock(self, index: int) -> None:
        """Lock an open register for good; raise PcrIndexError, or PcrLockedError when it already is."""
        self._check_open(index)
        self._locked[index] = True

    def lock_range(self, count: int) -> None:
        """Lock registers 0 to ``count`` - 1, locked ones among them or not; raise PcrIndexError above 32."""
        if not 0 <= count <= PCR_COUNT:
            raise PcrIndexError(f"the range of PCRs to lock is 0 to {PCR_COUNT}, not {count}")
        for index in range(count):
            self._locked[index] = True

    def locked(self) -> dict[int, bytes]:
        """Return the locked registers in ascending order: those that a document shows."""
        return {index: value for index, value in enumerate(self._values) if self._locked[index]}

    def _check_open(self, index: int) -> None:
        _check_index(index)
        if self._locked[index]:
            raise PcrLockedError(f"PCR{index} is locked")


def _check_index(index: int) -> None:
    if not 0 <= index < PCR_COUNT:
        raise PcrIndexError(f"there is no PCR{index}: registers are 0 to {PCR_COUNT - 1}")
