"""``cloister logs``: what is left of an enclave, living or dead: its console and its events."""

import argparse
import re
import sys

from cloister.cli.table import plain
from cloister.control import Request, ask
from cloister.flight import read_console
from cloister.places import Places, current_places
from cloister.running import (
    Enclave,
    Output,
    RunningError,
    explain,
    find_enclave,
    follow_console,
    follow_events,
    relay,
)

HELP = """Show what an enclave printed, if it ran in debug mode, or what happened to it, if it did not.

  cloister logs hello               by name (the newest of that name) or id, living or dead
  cloister logs hello --follow      until its end
  cloister logs hello --previous    of the run before
  cloister logs hello --events      what its supervisor noted, with times

The last 1 to 2 MiB of a debug enclave's console are kept, and the last hundred enclaves that have ended. A
production enclave has no console: nobody outside sees what it prints, so there are events only."""

EVENT = re.compile(r"\[[^\]]*\]\[([A-Z]+)\]\[([^\]]+)\]\[[^\]]*\] (.*)")
"""nitro-cli's log line (nitro-tools 1.2): id, level, time, place, message."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("enclave", metavar="NAME|ID", help="name or id of the enclave")
    parser.add_argument(
        "--previous", "-p", action="store_true", help="the run before the newest of that name"
    )
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the enclave's end")
    parser.add_argument("--events", action="store_true", help="what happened to it, instead of its console")


def run(args: argparse.Namespace) -> int:
    """Print the console or the events, then, on standard error, how the enclave ended."""
    places = current_places()
    enclave = find_enclave(places, args.enclave, previous=args.previous)
    if args.events or not _is_debug(places, enclave):
        if not args.events:
            _say(f"{enclave.name} is of production mode, where nobody sees a console: these are its events.")
        _show_events(places, enclave, follow=args.follow)
    else:
        _show_console(places, enclave, follow=args.follow)
    record = find_enclave(places, enclave.enclave_id).record
    if record is not None and record.is_over:
        _say(f"{enclave.name}: {explain(record)}")
    return 0


def _is_debug(places: Places, enclave: Enclave) -> bool:
    if enclave.record is not None:
        return enclave.record.debug
    assert enclave.entry is not None
    (answer,) = ask(places.run, [enclave.entry], Request("describe"))
    if answer.reply is None:
        raise RunningError(f"Enclave {enclave.name} has no record in {places.logs} and does not answer.")
    return answer.reply.body.get("Flags") == "DEBUG_MODE"


def _show_console(places: Places, enclave: Enclave, *, follow: bool) -> None:
    output = Output(sys.stdout.fileno())
    if follow and enclave.is_live:
        follow_console(places, enclave, output)
    elif enclave.record is None:
        raise RunningError(
            f"Enclave {enclave.name} has no record in {places.logs}; --follow shows its console."
        )
    else:
        output.put(read_console(enclave.record))
        relay(None, None, output)
    if output.is_closed:
        raise BrokenPipeError


def _show_events(places: Places, enclave: Enclave, *, follow: bool) -> None:
    if enclave.record is None:
        raise RunningError(f"Enclave {enclave.name} has no record in {places.logs}, and so no events.")
    shown = Enclave(enclave.enclave_id, enclave.name, enclave.entry if follow else None, enclave.record)
    follow_events(places, shown, _print_events)


def _print_events(text: str) -> None:
    for line in text.splitlines():
        match = EVENT.fullmatch(line)
        print(plain(line if match is None else f"{match[2]} {match[1]:<5} {match[3]}"), flush=True)


def _say(text: str) -> None:
    print(f"cloister: {plain(text)}", file=sys.stderr, flush=True)
