"""The vsock packet header and the numbers in it (virtio 1.2 section 5.10.6)."""

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

HEADER_SIZE = 44
MAX_PAYLOAD = 1 << 16  # Linux's VIRTIO_VSOCK_MAX_PKT_BUF_SIZE: neither driver nor device here sends more

CID_HYPERVISOR = 0
CID_HOST = 2  # the host of an ordinary virtual machine; Nitro enclaves do not use it
CID_PARENT = 3  # the parent instance, as an enclave sees it
CID_FIRST_ENCLAVE = 16
CID_ANY = 0xFFFFFFFF

TYPE_STREAM = 1

_LAYOUT = struct.Struct("<QQIIIHHIII")
unpack_header_from = _LAYOUT.unpack_from
pack_header_into = _LAYOUT.pack_into


class Op(IntEnum):
    """``op`` values (virtio 1.2 section 5.10.6)."""

    INVALID = 0
    REQUEST = 1
    RESPONSE = 2
    RST = 3
    SHUTDOWN = 4
    RW = 5
    CREDIT_UPDATE = 6
    CREDIT_REQUEST = 7


class Shutdown(IntFlag):
    """``flags`` of a SHUTDOWN packet (section 5.10.6.6.1): what its sender will not do any more."""

    NONE = 0
    RECEIVE = 1
    SEND = 2
    BOTH = 3


class Header(NamedTuple):
    """A packet header; a named tuple because one is made for every packet."""

    src_cid: int
    dst_cid: int
    src_port: int
    dst_port: int
    length: int
    type: int
    op: int
    flags: int
    buf_alloc: int
    fwd_cnt: int

    @classmethod
    def from_bytes(cls, buffer: bytes | memoryview) -> "Header":
        """Parse the first 44 bytes of a packet that has them."""
        return cls._make(_LAYOUT.unpack_from(buffer))

    def to_bytes(self) -> bytes:
        """Return the wire form."""
        return _LAYOUT.pack(*self)

    @property
    def reset(self) -> "Header":
        """The RST that answers this packet when no connection does (section 5.10.6.6)."""
        return Header(
            self.dst_cid,
            self.src_cid,
            self.dst_port,
            self.src_port,
            0,
            self.type,
            Op.RST,
            Shutdown.NONE,
            0,
            0,
        )
