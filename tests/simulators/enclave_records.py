"""Records of enclaves that have ended, as their supervisors would have left them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cloister.flight import FlightRecorder
from cloister.places import Places

NOON = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
Cloister = Callable[..., tuple[int, str, str]]
"""Runs a command and returns its exit code and what it printed on standard output and error."""


def remember(places: Places, slot: int, name: str, **fields: Any) -> FlightRecorder:
    """Write the record of an enclave that was started so many seconds after noon and is over."""
    recorder = FlightRecorder(places.logs, f"i-1-enc{slot:x}")
    known = {
        "enclave_name": name,
        "cid": 16,
        "cpu_ids": (0,),
        "memory_mib": 128,
        "image": f"{name}.eif",
        "measurements": {"HashAlgorithm": "Sha384 { ... }", "PCR0": "ab" * 48},
        "started": NOON + timedelta(seconds=slot),
        "ended": NOON + timedelta(seconds=slot + 1),
        "cause": "exited",
        "reason": "The program exited with status 7.",
        "exit_status": 7,
    }
    recorder.update(**known | fields)
    return recorder
