"""``cloister stop``: end enclaves, whatever state their logs and sockets are in."""

import argparse
import sys

from cloister.cli.options import seconds
from cloister.cli.table import plain
from cloister.control import Record, Register
from cloister.places import Places, current_places
from cloister.running import RunningError, Stopped, find_enclave, stop_enclaves

HELP = """End enclaves: ask, then signal, then kill, and remove what is left.

  cloister stop hello
  cloister stop --all
  cloister stop hello --timeout 2

Needs neither a log directory that can be written nor a supervisor that answers. An enclave that is over
already is no failure. Exit code 1 when one cannot be ended or there is none of that name."""

REASONS = {
    "refused": "belongs to another user, who may end it",
    "alive": "does not end, not even by SIGKILL: look at its supervisor, process {pid}",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("enclave", metavar="NAME|ID", nargs="*", help="names or ids of enclaves")
    parser.add_argument("--all", action="store_true", help="every enclave")
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=seconds,
        default=10.0,
        help="until SIGTERM, and again until SIGKILL; default: 10",
    )
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """End them and print the name of each that is over."""
    if args.all == bool(args.enclave):
        args.usage_error("name the enclaves, or use --all")
    places = current_places()
    entries, failed = (Register(places.run).live(), False) if args.all else _named(places, args.enclave)
    for stopped in stop_enclaves(places, entries, args.timeout):
        if stopped.is_over:
            print(plain(stopped.entry.name), flush=True)
        else:
            failed = True
        _tell(stopped)
    return int(failed)


def _named(places: Places, words: list[str]) -> tuple[list[Record], bool]:
    """Return the living ones of those names, and whether a name is nobody's: the others end all the same."""
    entries: dict[str, Record] = {}
    failed = False
    for word in words:
        try:
            enclave = find_enclave(places, word)
        except RunningError as error:
            print(f"cloister: {plain(str(error))}", file=sys.stderr)
            failed = True
            continue
        if enclave.entry is None:
            print(f"cloister: {plain(word)} is over already.", file=sys.stderr)
        else:
            entries[enclave.enclave_id] = enclave.entry
    return list(entries.values()), failed


def _tell(stopped: Stopped) -> None:
    name = plain(stopped.entry.name)
    if stopped.how == "killed":
        print(f"cloister: {name} did not end when asked and was killed.", file=sys.stderr)
    elif not stopped.is_over:
        reason = REASONS[stopped.how].format(pid=stopped.entry.pid)
        print(f"cloister: Enclave {name} {reason}.", file=sys.stderr)
