"""A vsock address on the host is a path, and a line leads from the host into an enclave.

DESIGN.md section 3: ``<cid>/<port>`` is a socket that listens, ``<cid>/mux`` leads to the enclave's ports by
the line protocol of Firecracker's hybrid sockets (docs/vsock.md there): ``CONNECT <port>`` and a newline,
answered by ``OK <port>`` and a newline.
"""

from cloister.errors import CloisterError
from cloister.vsock.packet import CID_ANY

MUX = "mux"
MAX_LINE = 32  # bytes; the longest legal line is "CONNECT 4294967295\n"
MAX_PORT = CID_ANY - 1  # VMADDR_PORT_ANY itself is no port


class AddressError(CloisterError):
    """A CID or port that cannot be, or a line that is not of the multiplexer's grammar."""


def listener_name(port: int) -> str:
    """Return the file name of a listener; raises AddressError."""
    return str(check_port(port))


def check_port(port: int) -> int:
    """Return the port; raises AddressError when it is no vsock port."""
    if not 0 <= port <= MAX_PORT:
        raise AddressError(f"vsock port {port} is out of range, expected 0 to {MAX_PORT}")
    return port


def check_cid(cid: int) -> int:
    """Return the CID; raises AddressError when it is none."""
    if not 0 <= cid < CID_ANY:
        raise AddressError(f"CID {cid} is out of range, expected 0 to {CID_ANY - 1}")
    return cid


def connect_line(port: int) -> bytes:
    """Return the line by which a client asks the multiplexer for a port."""
    return b"CONNECT %d\n" % check_port(port)


def parse_connect(line: bytes) -> int:
    """Parse a client's line, newline included, and return the port; raises AddressError."""
    return _parse(line, b"CONNECT ")


def ok_line(port: int) -> bytes:
    """Return the multiplexer's answer; the port is that of its own end."""
    return b"OK %d\n" % port


def parse_ok(line: bytes) -> int:
    """Parse the multiplexer's answer and return its port; raises AddressError."""
    return _parse(line, b"OK ")


def _parse(line: bytes, word: bytes) -> int:
    digits = line.removeprefix(word).removesuffix(b"\n")
    if not (line.startswith(word) and line.endswith(b"\n") and digits.isdigit() and len(digits) <= 10):
        raise AddressError(f"the line {line[:MAX_LINE]!r} is not '{word.decode()}<port>' and a newline")
    return check_port(int(digits))
