"""What an enclave's end means to whoever waited for it: an exit code and a sentence.

The codes are docker-run(1)'s and timeout(1)'s, so that scripts need nothing new (decision 0093).
"""

from typing import Final

from cloister.flight import FlightError, FlightRecord

TIMED_OUT: Final = 124
"""The time limit was reached (timeout(1))."""
FAILED: Final = 125
"""The enclave or Cloister failed, not the program (docker-run(1))."""
NOT_STARTED: Final = 126
"""The guest's init could not get as far as starting the program (docker-run(1)); 127 is its own status."""
SIGNAL_BASE: Final = 128
TERMINATED: Final = 143
"""Ended on request before its program was: as if by SIGTERM."""

_SENTENCES: Final = {
    "exited": "The program exited with status {status}.",
    "killed-by-signal": "The program was killed by signal {signal}.",
    "panic": "The guest's kernel panicked.",
    "init-failed": "The guest's init could not start the program.",
    "reset": "The guest reset itself and told nothing.",
    "terminated": "It was terminated.",
    "socket-removed": "Its control socket was removed.",
    "machine-killed": "Its virtual machine was killed from outside.",
    "machine-failed": "Its virtual machine failed.",
    "device-misused": "The guest misused a device.",
    "boot-timeout": "It did not boot in time.",
    "start-failed": "It could not be started.",
    "supervisor-killed": "Its supervisor was killed.",
}


def exit_code(record: FlightRecord) -> int:
    """Return what to exit with for an enclave that is over; raises FlightError for one that is not."""
    if not record.is_over:
        raise FlightError(f"Enclave {record.enclave_id} has not ended: it has no exit code yet.")
    if record.exit_status is not None:
        return record.exit_status
    if record.signal is not None:
        return SIGNAL_BASE + record.signal
    return {"terminated": TERMINATED, "init-failed": NOT_STARTED}.get(record.cause or "", FAILED)


def explain(record: FlightRecord) -> str:
    """Return how an enclave ended, as one sentence on one line."""
    if not record.is_over:
        return "It has not ended."
    sentence = _SENTENCES.get(record.cause or "", "It ended, nobody knows why.")
    told = record.reason or sentence.format(status=record.exit_status, signal=record.signal)
    plain = "".join(char if char.isprintable() else " " for char in told)
    return plain[:1].upper() + plain[1:].rstrip(".") + "."
