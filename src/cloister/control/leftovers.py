"""Removes what a killed supervisor left: record, socket, CIDs, and notes its death in the flight record.

The vsock tree's layout and locks are those of DESIGN section 3: a CID whose lock can be had is nobody's.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from cloister.flight import FlightError, mark_supervisor_killed

CONSOLE_PORT_OFFSET = 10000


def free_claims(run: Path) -> None:
    """Free every CID that no living process holds, with its sockets."""
    tree = run / "vsock"
    if not tree.is_dir():
        return
    with suppress(OSError), _locked(tree / ".lock", fcntl.LOCK_EX):
        for claim in tree.glob("*.lock"):
            if claim.stem.isdecimal():
                with suppress(OSError):
                    _free_claim(tree, claim)


def _free_claim(tree: Path, claim: Path) -> None:
    """Free one CID; raises BlockingIOError when it is held."""
    with _locked(claim, fcntl.LOCK_EX | fcntl.LOCK_NB):
        shutil.rmtree(tree / claim.stem, ignore_errors=True)
        (tree / "0" / str(int(claim.stem) + CONSOLE_PORT_OFFSET)).unlink(missing_ok=True)
        claim.unlink(missing_ok=True)


def note_death(logs: str, enclave_id: str) -> None:
    """End the flight record of an enclave whose supervisor is dead."""
    if logs and enclave_id:
        with suppress(FlightError, OSError, ValueError):
            mark_supervisor_killed(Path(logs), enclave_id, datetime.now(UTC))


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)
