"""Who is at the other end of a Unix socket: asked of the kernel over netlink (sock_diag(7), unix_diag).

/proc/net/unix has no peers. A kernel without unix_diag tells nothing, and then nothing is claimed.
"""

import socket
import struct
from contextlib import suppress
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_ALL_STATES: Final = 0xFFFF_FFFF
_SHOW_PEER: Final = 4  # UDIAG_SHOW_PEER
_ATTRIBUTE_PEER: Final = 2  # UNIX_DIAG_PEER
_NO_COOKIE: Final = 0xFFFF_FFFF
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBHIIIII")
_MESSAGE: Final = struct.Struct("=BBBBIII")
ANSWER_SECONDS: Final = 3.0
ANSWER_SIZE: Final = 1 << 18


def unix_peers() -> dict[int, int] | None:
    """Return inode and peer's inode of each connected Unix socket of this network; None if unknown."""
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, _SHOW_PEER, _NO_COOKIE, _NO_COOKIE)
    peers: dict[int, int] = {}
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(ANSWER_SECONDS)
            size = _HEADER.size + len(request)
            kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _DUMP, 1, 0) + request)
            while _take(kernel.recv(ANSWER_SIZE), peers):
                pass
    except OSError:
        return None
    return peers


def _take(answer: bytes, peers: dict[int, int]) -> bool:
    """Read the messages of one datagram; return whether more will follow, raise OSError for a refusal."""
    position = 0
    while position + _HEADER.size <= len(answer):
        length, kind, *_ = _HEADER.unpack_from(answer, position)
        if kind == _DONE:
            return False
        if kind == _ERROR or length < _HEADER.size:
            raise OSError("the kernel does not tell")
        body = answer[position + _HEADER.size : position + length]
        with suppress(struct.error):
            *_, inode, _, _ = _MESSAGE.unpack_from(body)
            peer = _peer(body[_MESSAGE.size :])
            if peer:
                peers[inode] = peer
        position += length + 3 & ~3
    return True


def _peer(attributes: bytes) -> int | None:
    position = 0
    while position + 4 <= len(attributes):
        length, kind = struct.unpack_from("=HH", attributes, position)
        if kind == _ATTRIBUTE_PEER and length == 8:
            return int(struct.unpack_from("=I", attributes, position + 4)[0])
        position += max(4, length + 3 & ~3)
    return None
