"""The vhost-user messages: what a front end (QEMU) asks of a device back end.

Follows the vhost-user protocol specification, "Message Specification" (little-endian, as both ends are on one
x86 or Arm host). Parsing alone: file descriptors travel beside the bytes and are counted here, never touched.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from cloister.vhost.faults import DeviceError

HEADER_SIZE = 12
MAX_PAYLOAD = 4096  # the largest message is SET_MEM_TABLE with 8 regions, 264 bytes
MAX_REGIONS = 8  # VHOST_USER_MAX_RAM_SLOTS without CONFIGURE_MEM_SLOTS
MAX_CONFIG = 256  # VHOST_USER_MAX_CONFIG_SIZE

VERSION = 0x1
FLAG_REPLY = 0x4
FLAG_NEED_REPLY = 0x8

_HEADER = struct.Struct("<III")
_U64 = struct.Struct("<Q")
_VRING_STATE = struct.Struct("<II")
_VRING_ADDRESS = struct.Struct("<IIQQQQ")
_REGION = struct.Struct("<QQQQ")
_CONFIG = struct.Struct("<III")


class Request(IntEnum):
    """Front-end message types this back end answers."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_CONFIG = 24
    SET_CONFIG = 25
    RESET_DEVICE = 34


class ProtocolFeature(IntFlag):
    """Optional parts of the protocol ("Protocol features")."""

    MQ = 1 << 0
    REPLY_ACK = 1 << 3
    CONFIG = 1 << 9
    RESET_DEVICE = 1 << 13


@dataclass(frozen=True, slots=True)
class Header:
    """The twelve bytes before every payload."""

    request: int
    flags: int
    size: int

    @classmethod
    def from_bytes(cls, header: bytes) -> "Header":
        """Parse and bound a header; raises DeviceError."""
        request, flags, size = _HEADER.unpack(header)
        if flags & 0x3 != VERSION:
            raise DeviceError(f"the vhost-user peer speaks version {flags & 0x3}, expected {VERSION}")
        if size > MAX_PAYLOAD:
            raise DeviceError(
                f"vhost-user request {request} announces {size} bytes, expected at most {MAX_PAYLOAD}"
            )
        return cls(request, flags, size)

    def to_bytes(self) -> bytes:
        """Return the wire form."""
        return _HEADER.pack(self.request, self.flags, self.size)

    @property
    def wants_reply(self) -> bool:
        """Whether the peer asks for an acknowledgement (REPLY_ACK)."""
        return bool(self.flags & FLAG_NEED_REPLY)


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """One row of SET_MEM_TABLE: guest physical memory as it lies in a file."""

    guest_address: int
    size: int
    user_address: int
    offset: int


@dataclass(frozen=True, slots=True)
class RingAddress:
    """SET_VRING_ADDR: where the three parts of a ring are, in the peer's own address space."""

    index: int
    flags: int
    descriptors: int
    used: int
    available: int


@dataclass(frozen=True, slots=True)
class ConfigAccess:
    """GET_CONFIG and SET_CONFIG: a window of the device's configuration space."""

    offset: int
    size: int
    flags: int


def reply(request: int, payload: bytes) -> bytes:
    """Return a whole reply message."""
    return _HEADER.pack(request, VERSION | FLAG_REPLY, len(payload)) + payload


def parse_u64(payload: bytes) -> int:
    """Parse the payload most messages have."""
    return int(_unpack(_U64, payload)[0])


def u64(value: int) -> bytes:
    """Return the payload most replies have."""
    return _U64.pack(value)


def parse_ring_state(payload: bytes) -> tuple[int, int]:
    """Parse ``(ring index, number)``."""
    index, number = _unpack(_VRING_STATE, payload)
    return index, number


def ring_state(index: int, number: int) -> bytes:
    """Return the payload of GET_VRING_BASE's reply."""
    return _VRING_STATE.pack(index, number)


def parse_ring_address(payload: bytes) -> RingAddress:
    """Parse SET_VRING_ADDR (the log address is not used: no migration)."""
    index, flags, descriptors, used, available, _log = _unpack(_VRING_ADDRESS, payload)
    return RingAddress(index, flags, descriptors, used, available)


def parse_memory_table(payload: bytes) -> tuple[MemoryRegion, ...]:
    """Parse SET_MEM_TABLE; raises DeviceError when the count and the size disagree."""
    if len(payload) < 8:
        raise DeviceError(f"a memory table of {len(payload)} bytes is too short, expected at least 8")
    count = int.from_bytes(payload[:4], "little")
    if not 1 <= count <= MAX_REGIONS or len(payload) != 8 + count * _REGION.size:
        raise DeviceError(
            f"a memory table of {count} regions in {len(payload)} bytes, expected 1 to {MAX_REGIONS}"
        )
    return tuple(MemoryRegion(*_REGION.unpack_from(payload, 8 + i * _REGION.size)) for i in range(count))


def parse_config(payload: bytes) -> tuple[ConfigAccess, bytes]:
    """Parse a configuration window and the bytes that follow it; raises DeviceError."""
    if len(payload) < _CONFIG.size:
        raise DeviceError(
            f"a config message of {len(payload)} bytes is too short, expected at least {_CONFIG.size}"
        )
    access = ConfigAccess(*_CONFIG.unpack_from(payload))
    body = payload[_CONFIG.size :]
    if access.size > MAX_CONFIG or access.size != len(body):
        raise DeviceError(
            f"a config window of {access.size} bytes came with {len(body)}, expected at most {MAX_CONFIG}"
        )
    return access, body


def config_payload(access: ConfigAccess, content: bytes) -> bytes:
    """Return GET_CONFIG's answer."""
    return _CONFIG.pack(access.offset, len(content), access.flags) + content


def _unpack(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise DeviceError(f"a vhost-user payload has {len(payload)} bytes, expected {layout.size}")
    return layout.unpack(payload)
