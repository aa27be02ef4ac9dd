"""A byte stream to ``(cid, port)``: a Unix socket by its path on the parent, AF_VSOCK inside an enclave.

DESIGN.md section 3. Plain blocking sockets and nothing but the standard library, for programs on both sides.
"""

import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cloister.errors import CloisterError
from cloister.places import current_places
from cloister.vsock import (
    CID_ANY,
    CID_PARENT,
    MAX_LINE,
    MUX,
    AddressError,
    check_cid,
    check_port,
    connect_line,
    listener_name,
    parse_ok,
)

CONNECT_SECONDS = 10.0
BACKLOG = 1024


class TransportError(CloisterError):
    """A stream that could not be made."""


class RefusedError(TransportError):
    """Nothing listens there."""


class UnreachableError(TransportError):
    """There is no enclave with that CID, or no vsock on this machine."""


class TransportTimeoutError(TransportError):
    """The other side did not answer in time."""


class AddressInUseError(TransportError):
    """Somebody listens there already."""


def inside_enclave() -> bool:
    """Whether this program runs in an enclave: only there is a security module.

    A CID of its own proves nothing: the parent may be somebody's virtual machine too.
    """
    return Path("/dev/nsm").exists()


def open_stream(cid: int, port: int, *, timeout: float | None = CONNECT_SECONDS) -> socket.socket:
    """Connect to a port of a CID and return the blocking socket.

    ``timeout`` (seconds) is for connecting. Raises RefusedError, UnreachableError, TransportTimeoutError.
    """
    check_cid(cid)
    check_port(port)
    name = f"(CID {cid}, port {port})"
    try:
        if inside_enclave():
            sock = _open_vsock(cid, port, timeout)
        else:
            sock = _open_path(current_places().vsock / str(cid), port, timeout)
    except TimeoutError as error:
        raise TransportTimeoutError(f"{name} did not answer within {timeout} s") from error
    except (ConnectionRefusedError, ConnectionResetError) as error:
        raise RefusedError(f"nothing accepts connections on {name}") from error
    except OSError as error:
        raise UnreachableError(f"{name} cannot be reached: {error.strerror}") from error
    sock.settimeout(None)
    return sock


def listen(port: int, *, cid: int = CID_PARENT, backlog: int = BACKLOG) -> socket.socket:
    """Listen on a port and return the blocking, listening socket.

    On the parent the socket is ``<run>/vsock/<cid>/<port>`` (0600), and its file is the caller's to unlink;
    inside an enclave it is bound to any CID. Raises AddressInUseError, UnreachableError.
    """
    check_cid(cid)
    check_port(port)
    try:
        if inside_enclave():
            sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            with _closing_on_error(sock):
                sock.bind((CID_ANY, port))
                sock.listen(backlog)
            return sock
        return _listen_path(current_places().vsock / str(cid), port, backlog)
    except OSError as error:
        raise UnreachableError(f"cannot listen on port {port}: {error.strerror}") from error


def listener_path(port: int, *, cid: int = CID_PARENT) -> Path:
    """Return the parent's file for a listener."""
    return current_places().vsock / str(check_cid(cid)) / listener_name(port)


def _open_vsock(cid: int, port: int, timeout: float | None) -> socket.socket:
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with _closing_on_error(sock):
        sock.settimeout(timeout)
        sock.connect((cid, port))
    return sock


def _open_path(directory: Path, port: int, timeout: float | None) -> socket.socket:
    """Connect by the path rules: a listener's own file, else through the enclave's multiplexer."""
    deadline = None if timeout is None else time.monotonic() + timeout
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with _closing_on_error(sock):
        try:
            with _short_path(directory) as short:
                _connect(sock, short / listener_name(port), deadline)
            return sock
        except FileNotFoundError:
            if not directory.is_dir():
                raise
        if not (directory / MUX).exists():
            raise ConnectionRefusedError
        with _short_path(directory) as short:
            _connect(sock, short / MUX, deadline)
        _ask_mux(sock, port, deadline)
    return sock


def _connect(sock: socket.socket, path: Path, deadline: float | None) -> None:
    """Connect a Unix socket; its full backlog is waited out."""
    sock.settimeout(_left(deadline))
    while True:
        try:
            sock.connect(str(path))
            return
        except BlockingIOError:  # unix(7): a full backlog with a timeout set
            _left(deadline)
            time.sleep(0.01)


def _ask_mux(sock: socket.socket, port: int, deadline: float | None) -> None:
    """Ask for a port and read the answer, byte by byte: what follows is the enclave's."""
    sock.settimeout(_left(deadline))
    line = b""
    try:
        sock.sendall(connect_line(port))
        while not line.endswith(b"\n") and len(line) < MAX_LINE:
            sock.settimeout(_left(deadline))
            byte = sock.recv(1)
            if not byte:
                raise ConnectionRefusedError
            line += byte
        parse_ok(line)
    except BrokenPipeError as error:
        raise ConnectionRefusedError from error
    except AddressError as error:
        raise ConnectionRefusedError from error


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _listen_path(directory: Path, port: int, backlog: int) -> socket.socket:
    """Bind under a lock, so that of two listeners exactly one wins, and a dead one's file is replaced."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _closing_on_error(sock), _short_path(directory) as short:
            path = short / listener_name(port)
            _remove_stale(path, directory / path.name)
            sock.bind(str(path))
            path.chmod(0o600)
            sock.listen(backlog)
    finally:
        os.close(lock)
    return sock


def _remove_stale(path: Path, name: Path) -> None:
    """Remove a socket nobody listens on; raises AddressInUseError when somebody does, or it is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressInUseError(f"{name} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                path.unlink()
            return
        except BlockingIOError:
            pass  # alive, and its backlog is full
    raise AddressInUseError(f"another program listens at {name}")


@contextmanager
def _short_path(directory: Path) -> Iterator[Path]:
    """Name a directory briefly: a socket's path has at most 107 bytes (unix(7))."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


@contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
