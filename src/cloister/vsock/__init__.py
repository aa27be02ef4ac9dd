"""virtio-vsock without a device: packets, one connection, all connections of a guest, addresses on the host.

Virtio 1.2 section 5.10; streams only (no SEQPACKET, no datagrams).
"""

from cloister.vsock.addresses import (
    MAX_LINE,
    MUX,
    AddressError,
    check_cid,
    check_port,
    connect_line,
    listener_name,
    ok_line,
    parse_connect,
    parse_ok,
)
from cloister.vsock.connection import Connection, Effect, State
from cloister.vsock.muxer import Muxer, Route
from cloister.vsock.packet import (
    CID_ANY,
    CID_FIRST_ENCLAVE,
    CID_HOST,
    CID_HYPERVISOR,
    CID_PARENT,
    HEADER_SIZE,
    MAX_PAYLOAD,
    TYPE_STREAM,
    Header,
    Op,
    Shutdown,
    pack_header_into,
    unpack_header_from,
)

__all__ = [
    "CID_ANY",
    "CID_FIRST_ENCLAVE",
    "CID_HOST",
    "CID_HYPERVISOR",
    "CID_PARENT",
    "HEADER_SIZE",
    "MAX_LINE",
    "MAX_PAYLOAD",
    "MUX",
    "TYPE_STREAM",
    "AddressError",
    "Connection",
    "Effect",
    "Header",
    "Muxer",
    "Op",
    "Route",
    "Shutdown",
    "State",
    "check_cid",
    "check_port",
    "connect_line",
    "listener_name",
    "ok_line",
    "pack_header_into",
    "parse_connect",
    "parse_ok",
    "unpack_header_from",
]
