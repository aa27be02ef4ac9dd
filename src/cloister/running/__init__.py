"""Enclaves as their user sees them: run in the foreground, found, watched, waited for, ended, measured.

Joins three sources: the register of the living (``control``), the records of all (``flight``), and ``/proc``.
The processes are ``supervisor``'s; nothing here keeps an enclave alive.
"""

from cloister.running.document import document_registers
from cloister.running.enclaves import Enclave, RunningError, find_enclave, list_enclaves
from cloister.running.ending import FAILED, NOT_STARTED, TERMINATED, TIMED_OUT, exit_code, explain
from cloister.running.foreground import Outcome, run_in_foreground, start
from cloister.running.output import Output
from cloister.running.restarts import BackOff, RestartPolicy
from cloister.running.signals import Signals
from cloister.running.stopping import Stopped, stop_enclaves
from cloister.running.usage import Sample, Usage, compare, take_sample
from cloister.running.watching import await_end, follow_console, follow_events, relay

__all__ = [
    "FAILED",
    "NOT_STARTED",
    "TERMINATED",
    "TIMED_OUT",
    "BackOff",
    "Enclave",
    "Outcome",
    "Output",
    "RestartPolicy",
    "RunningError",
    "Sample",
    "Signals",
    "Stopped",
    "Usage",
    "await_end",
    "compare",
    "document_registers",
    "exit_code",
    "explain",
    "find_enclave",
    "follow_console",
    "follow_events",
    "list_enclaves",
    "relay",
    "run_in_foreground",
    "start",
    "stop_enclaves",
    "take_sample",
]
