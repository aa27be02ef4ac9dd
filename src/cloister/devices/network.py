"""CIDs and the vsock address tree of one user on one host (DESIGN.md section 3).

``<run>/vsock/<cid>/<port>`` is a listener on (cid, port), ``<run>/vsock/<cid>/mux`` leads into the enclave
with that CID. A CID belongs to the process that holds the lock on ``<run>/vsock/<cid>.lock``.
"""

import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from cloister.errors import CloisterError
from cloister.vsock import CID_FIRST_ENCLAVE, CID_PARENT, MUX, check_cid, listener_name

LAST_CID = 0xFFFF_FFFE  # VMADDR_CID_ANY is none
BACKLOG = 1024
SEARCHED = 1 << 16  # CIDs tried before giving up


class CidError(CloisterError):
    """A CID that is taken or not for enclaves, or a directory that cannot hold sockets."""


class Claim:
    """One CID, held until ``close`` or the end of the process."""

    def __init__(self, network: "HostNetwork", cid: int, lock: int) -> None:
        self.cid = cid
        self._network = network
        self._lock = lock
        self._open = True

    @property
    def directory(self) -> Path:
        """Where this CID's sockets are."""
        return self._network.root / str(self.cid)

    def listen_mux(self) -> socket.socket:
        """Return the listening, non-blocking socket that leads into the enclave (0600)."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with _short_path(self.directory) as directory:
                sock.bind(str(directory / MUX))
                (directory / MUX).chmod(0o600)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise CidError(f"cannot listen at {self.directory / MUX}: {error.strerror}") from error
        return sock

    def close(self) -> None:
        """Remove the directory and free the CID; closing twice is fine."""
        if not self._open:
            return
        self._open = False
        with self._network.locked():
            shutil.rmtree(self.directory, ignore_errors=True)
            with suppress(OSError):
                (self._network.root / f"{self.cid}.lock").unlink()
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HostNetwork:
    """The address tree under ``run``; makes its directories (0700) when they are missing."""

    def __init__(self, run: Path) -> None:
        self.root = run / "vsock"

    def claim_cid(self, cid: int | None = None) -> Claim:
        """Take a CID, or the lowest free one from 16 on; raises CidError."""
        with self.locked():
            if cid is not None:
                if check_cid(cid) < CID_FIRST_ENCLAVE:
                    raise CidError(f"CID {cid} is reserved, expected {CID_FIRST_ENCLAVE} to {LAST_CID}")
                claim = self._try(cid)
                if claim is None:
                    raise CidError(f"CID {cid} is in use by another enclave")
                return claim
            for candidate in range(CID_FIRST_ENCLAVE, CID_FIRST_ENCLAVE + SEARCHED):
                claim = self._try(candidate)
                if claim is not None:
                    return claim
        raise CidError(f"no free CID among the first {SEARCHED}")

    def dial(self, cid: int, port: int) -> socket.socket:
        """Connect an enclave to the parent's listener on a port; raises ConnectionRefusedError.

        Only the parent (CID 3) can be dialled: enclaves do not reach each other.
        """
        if cid != CID_PARENT:
            raise ConnectionRefusedError(f"CID {cid} cannot be reached from an enclave")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with _short_path(self.root / str(CID_PARENT)) as directory:
                sock.connect(str(directory / listener_name(port)))
        except (OSError, CloisterError) as error:
            sock.close()
            raise ConnectionRefusedError(f"nothing listens on ({cid}, {port})") from error
        return sock

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the tree's lock: short, for claims and releases."""
        try:
            _private_directory(self.root)
            lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise CidError(f"cannot use {self.root} for sockets: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _try(self, cid: int) -> Claim | None:
        """Claim one CID under the tree's lock; whatever a dead holder left is replaced."""
        path = self.root / f"{cid}.lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise CidError(f"cannot use {path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        directory = self.root / str(cid)
        shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir(mode=0o700)
        except OSError as error:
            os.close(lock)
            raise CidError(f"cannot make {directory}: {error.strerror}") from error
        return Claim(self, cid, lock)


def _private_directory(path: Path) -> None:
    """Make the directory and see that nobody else can write where sockets will be."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise CidError(f"{path} must be a directory of this user that no one else can write to")


@contextmanager
def _short_path(directory: Path) -> Iterator[Path]:
    """Name a directory briefly: a socket's path has at most 107 bytes (unix(7))."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
