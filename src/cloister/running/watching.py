"""Watching an enclave until its end: its process, its console, its events."""

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from cloister.control import Record, Register
from cloister.flight import FlightRecord, read_console, read_events
from cloister.places import Places
from cloister.running.enclaves import Enclave, RunningError, load
from cloister.running.output import Output
from cloister.running.signals import Signals
from cloister.transport import TransportError, open_stream

HYPERVISOR_CID: Final = 0
CONSOLE_PORT_OFFSET: Final = 10000
"""The console is at CID 0, port CID + 10000 (nitro-tools 1.7)."""
CONNECT_SECONDS: Final = 20.0
COMPLETE_SIZE: Final = 1 << 20
"""Bytes: a kept console of at most this size has lost nothing."""
LOOK_SECONDS: Final = 0.2
_READ_SIZE: Final = 1 << 14
HURRY_MS: Final = 500
"""How long a reader may take none of what an ended enclave printed, once a signal has come."""


@contextmanager
def supervisor_of(places: Places, entry: Record) -> Iterator[int | None]:
    """Give a pidfd of an enclave's supervisor (pidfd_open(2)), or None when that is gone."""
    try:
        pidfd = os.pidfd_open(entry.pid)
    except OSError:
        yield None
        return
    try:
        # between reading the register and opening the process, its number may have become another's
        yield pidfd if entry in Register(places.run).live() else None
    finally:
        os.close(pidfd)


def open_console(cid: int) -> socket.socket | None:
    """Connect to a debug enclave's console, which begins at its first byte; None when it is over."""
    try:
        return open_stream(HYPERVISOR_CID, cid + CONSOLE_PORT_OFFSET, timeout=CONNECT_SECONDS)
    except TransportError:
        return None


def await_end(places: Places, enclave: Enclave, seconds: float | None = None) -> FlightRecord:
    """Wait for an enclave's end and return its record; raises TimeoutError, and RunningError without one."""
    if enclave.entry is not None:
        with supervisor_of(places, enclave.entry) as pidfd:
            if pidfd is not None and not select.select([pidfd], [], [], seconds)[0]:
                raise TimeoutError
    return final_record(places, enclave.enclave_id, enclave.name)


def final_record(places: Places, enclave_id: str, name: str) -> FlightRecord:
    """Return the record of an enclave whose supervisor is gone; raises RunningError without one."""
    Register(places.run).live()  # removes what a killed supervisor left
    record = load(places, enclave_id)
    if record is None:
        raise RunningError(f"How enclave {name} ended is not known: {places.logs} has no record of it.")
    if not record.is_over:
        raise RunningError(f"How enclave {name} ended is not known: its record could not be finished.")
    return record


def relay(
    console: socket.socket | None, supervisor: int | None, output: Output, signals: Signals | None = None
) -> None:
    """Copy a console to the output until both it and the supervisor have ended and all is written.

    Returns early when the output is closed, or nobody takes it and a signal has come.
    """
    while not output.is_closed and (console is not None or supervisor is not None or not output.is_idle):
        hurry = signals is not None and bool(signals.received)
        poll = select.poll()
        poll.register(output.fd, output.interest)
        if console is not None and output.has_room:
            poll.register(console, select.POLLIN)
        if supervisor is not None:
            poll.register(supervisor, select.POLLIN)
        if signals is not None and not hurry:
            poll.register(signals.ear, select.POLLIN)
        found = poll.poll(HURRY_MS if hurry and supervisor is None else None)
        if not found:
            return
        for fd, events in found:
            if fd == output.fd:
                output.ready(events)
            elif fd == supervisor:
                supervisor = None
            elif console is not None and fd == console.fileno():
                console = _receive(console, output)


def _receive(console: socket.socket, output: Output) -> socket.socket | None:
    try:
        content = console.recv(_READ_SIZE)
    except OSError:
        return None
    output.put(content)
    return console if content else None


def missed_output(record: FlightRecord, received: int) -> bytes:
    """Return what a reader of the console who got so many bytes did not get before the end."""
    kept = read_console(record)
    return kept[received:] if received == 0 or len(kept) <= COMPLETE_SIZE else b""


def follow_console(places: Places, enclave: Enclave, output: Output) -> None:
    """Copy a debug enclave's console from its beginning to its end, or until the output is closed."""
    if enclave.entry is not None and (console := open_console(enclave.entry.cid)) is not None:
        with console, supervisor_of(places, enclave.entry) as supervisor:
            relay(console, supervisor, output)
    if not output.is_closed and (record := load(places, enclave.enclave_id)) is not None:
        output.put(missed_output(record, output.received))
        relay(None, None, output)


def follow_events(
    places: Places,
    enclave: Enclave,
    show: Callable[[str], None],
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Show events as they are written until the enclave's end; a file's growth raises no event of ours."""
    if enclave.record is None:
        return
    if enclave.entry is None:
        show(read_events(enclave.record))
        return
    shown = 0
    with supervisor_of(places, enclave.entry) as pidfd:
        while True:
            over = pidfd is None or bool(select.select([pidfd], [], [], 0)[0])
            text = read_events(enclave.record)
            if len(text) > shown:
                show(text[shown:])
                shown = len(text)
            if over:
                return
            pause(LOOK_SECONDS)
