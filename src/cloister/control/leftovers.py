"""Removes what a killed supervisor left: its record, its sockets, its CID's directory.

The vsock tree's layout and locks are those of DESIGN section 3: a CID whose lock can be had is nobody's.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONSOLE_PORT_OFFSET = 10000


def remove_leftovers(run: Path, slot: str, cid: int) -> None:
    """Remove a dead enclave's files; those of another user are left to that user."""
    with suppress(OSError):
        _remove_addresses(run / "vsock", cid)
        for suffix in (".sock", ".json"):
            (run / f"{slot}{suffix}").unlink(missing_ok=True)


def _remove_addresses(tree: Path, cid: int) -> None:
    if not tree.is_dir():
        return
    with _locked(tree / ".lock", fcntl.LOCK_EX):
        claim = tree / f"{cid}.lock"
        try:
            with _locked(claim, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(tree / str(cid), ignore_errors=True)
                (tree / "0" / str(cid + CONSOLE_PORT_OFFSET)).unlink(missing_ok=True)
                claim.unlink(missing_ok=True)
        except BlockingIOError:
            return  # another enclave has the CID by now


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)
