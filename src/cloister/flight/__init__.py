"""The flight recorder: what is kept of every enclave, during its life and after its death.

One directory an enclave, ``<logs>/enclaves/<EnclaveID>/``: ``record.json`` (who, when, how it ended),
``events.log`` (the supervisor's lines) and, in debug mode, ``console.log``.
"""

from cloister.flight.record import FlightError, FlightRecord
from cloister.flight.recorder import FlightRecorder, mark_supervisor_killed
from cloister.flight.shelf import find_record, list_records, read_console, read_events

__all__ = [
    "FlightError",
    "FlightRecord",
    "FlightRecorder",
    "find_record",
    "list_records",
    "mark_supervisor_killed",
    "read_console",
    "read_events",
]
