"""Removes what a killed supervisor left: processes, CIDs, and notes its death in the flight record.

The vsock tree's layout and locks are those of DESIGN section 3: a CID whose lock can be had is nobody's.
"""

import fcntl
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONSOLE_PORT_OFFSET = 10000
MARK = "CLOISTER_SLOT"
"""What a supervisor's children carry in their environment; QEMU, once it is executed, has none."""


def mark_children(slot: str) -> None:
    """Let every process that this one starts from now on be known as the slot's."""
    os.environ[MARK] = slot


def kill_strays(slots: Collection[str]) -> None:
    """Kill what dead supervisors have started and what did not become a machine that dies with them."""
    marks = {f"{MARK}={slot}".encode() for slot in slots}
    for name in os.listdir("/proc"):  # noqa: PTH208 -- names are numbers here
        if name.isdecimal() and _is_marked(name, marks):
            with suppress(OSError):
                process = os.pidfd_open(int(name))
                try:
                    if _is_marked(name, marks):  # still the same process, now that it cannot be mistaken
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                finally:
                    os.close(process)


def _is_marked(pid: str, marks: set[bytes]) -> bool:
    """Say whether a process that this user may look into carries one of the marks."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return not marks.isdisjoint(environment.split(b"\0"))


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
    import shutil  # noqa: PLC0415 -- whoever starts an enclave seldom has to clean up after another

    with _locked(claim, fcntl.LOCK_EX | fcntl.LOCK_NB):
        shutil.rmtree(tree / claim.stem, ignore_errors=True)
        (tree / "0" / str(int(claim.stem) + CONSOLE_PORT_OFFSET)).unlink(missing_ok=True)
        claim.unlink(missing_ok=True)


def note_death(logs: str, enclave_id: str) -> None:
    """End the flight record of an enclave whose supervisor is dead."""
    if logs and enclave_id:
        from datetime import UTC, datetime  # noqa: PLC0415 -- as above

        from cloister.flight import FlightError, mark_supervisor_killed  # noqa: PLC0415 -- as above

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
