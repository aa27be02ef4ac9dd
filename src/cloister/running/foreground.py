"""One enclave in the foreground: started, shown, ended by a signal, and its end understood."""

import select
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from cloister.control import EnclaveFailure, Record, Register
from cloister.flight import FlightRecord
from cloister.places import Places
from cloister.running.enclaves import RunningError, load
from cloister.running.ending import FAILED, exit_code, explain
from cloister.running.output import Output
from cloister.running.signals import Signals
from cloister.running.watching import final_record, missed_output, open_console, relay, supervisor_of
from cloister.supervisor import RunRequest, launch

Say = Callable[[str], None]
END_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended: what to exit with, and the sentence that goes with it."""

    code: int
    sentence: str
    lasted: float
    """Seconds."""
    is_stopped: bool = False
    """Whether somebody asked for the end, who does not want it to start again."""


class _Launching:
    """Follows a launch far enough to be able to end it, and to find what is left of it."""

    def __init__(self, places: Places, stack: ExitStack, signals: Signals) -> None:
        self._places = places
        self._stack = stack
        self._signals = signals
        self.entry: Record | None = None
        self.supervisor: int | None = None

    def registered(self, enclave_id: str) -> None:
        """Find the supervisor, once the enclave is in the register, and aim signals at it."""
        if self.entry is not None:
            return
        entries = Register(self._places.run).live()
        self.entry = next((entry for entry in entries if entry.enclave_id == enclave_id), None)
        if self.entry is not None:
            self.supervisor = self._stack.enter_context(supervisor_of(self._places, self.entry))
            self._stack.callback(self._signals.aim, None)
            self._signals.aim(self.supervisor)


def start(request: RunRequest, places: Places) -> dict[str, Any]:
    """Start an enclave that goes on by itself and return its description; raises EnclaveFailure."""
    for news in launch(request, places):
        if news.description is not None:
            return news.description
    raise EnclaveFailure("E36", "The enclave's supervisor said nothing.")


def run_in_foreground(
    request: RunRequest, places: Places, signals: Signals, output: Output | None, say: Say
) -> Outcome:
    """Run an enclave to its end and return how that came; ``output`` gets a debug enclave's console.

    Raises EnclaveFailure where it could not be started.
    """
    began = time.monotonic()
    if output is not None:
        output.received = 0
    with ExitStack() as stack:
        launching = _Launching(places, stack, signals)
        try:
            description = _launch(request, places, launching)
        except EnclaveFailure:
            record = _failed_start(launching, places)
            if record is None and not signals.received:
                raise
            return _end(record, request.wanted_name, signals, output, began)
        name, enclave_id = str(description["EnclaveName"]), str(description["EnclaveID"])
        say(
            f"{name} runs as {enclave_id}: CID {description['EnclaveCID']}, "
            f"{description['NumberOfCPUs']} CPU(s), {description['MemoryMiB']} MiB"
        )
        _watch(int(description["EnclaveCID"]), launching.supervisor, signals, output)
        try:
            record = final_record(places, enclave_id, name)
        except RunningError as error:
            return Outcome(signals.exit_code or FAILED, str(error), time.monotonic() - began)
        return _end(record, name, signals, output, began)


def _launch(request: RunRequest, places: Places, launching: _Launching) -> dict[str, Any]:
    for news in launch(request, places):
        if news.enclave_id is not None:
            launching.registered(news.enclave_id)
        if news.description is not None:
            launching.registered(str(news.description["EnclaveID"]))
            return news.description
    raise EnclaveFailure("E36", "The enclave's supervisor said nothing.")


def _failed_start(launching: _Launching, places: Places) -> FlightRecord | None:
    """Return the record of an enclave that ended before its heartbeat, if that says more than the failure."""
    if launching.entry is None:
        return None
    if launching.supervisor is not None:
        select.select([launching.supervisor], [], [], END_SECONDS)
    record = load(places, launching.entry.enclave_id)
    return record if record is not None and record.is_over and record.cause != "start-failed" else None


def _watch(cid: int, supervisor: int | None, signals: Signals, output: Output | None) -> None:
    """Wait for the enclave's end, showing its console meanwhile; signals reach it by themselves."""
    if output is not None:
        with ExitStack() as stack:
            console = open_console(cid)
            if console is not None:
                stack.enter_context(console)
            relay(console, supervisor, output, signals)
        if output.is_closed and not signals.received:
            signals.receive(signal.SIGPIPE)
    if supervisor is not None:
        select.select([supervisor], [], [])


def _end(
    record: FlightRecord | None, name: str, signals: Signals, output: Output | None, began: float
) -> Outcome:
    """Show what the console did not deliver, and say how the enclave ended."""
    lasted = time.monotonic() - began
    if record is None:
        return Outcome(signals.exit_code or FAILED, f"{name}: {_interruption(signals)}", lasted)
    if output is not None and not output.is_closed:
        output.put(missed_output(record, output.received))
        relay(None, None, output, signals)
    own = record.exit_status is not None or record.signal is not None
    if own or not signals.received:
        stopped = record.cause == "terminated"
        return Outcome(exit_code(record), f"{name}: {explain(record)}", lasted, stopped)
    return Outcome(signals.exit_code or FAILED, f"{name}: {_interruption(signals)}", lasted)


def _interruption(signals: Signals) -> str:
    first = signals.received[0]
    reasons = {
        signal.SIGALRM: "at its time limit",
        signal.SIGPIPE: "because its console cannot be written any more",
    }
    how = "It was ended" if len(signals.received) == 1 else "It was killed"
    return f"{how} {reasons.get(first, f'by {first.name}')}."
