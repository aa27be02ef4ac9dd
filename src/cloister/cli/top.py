"""``cloister top``: what each enclave uses, measured from ``/proc``."""

import argparse
import json
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cloister.cli.options import seconds
from cloister.cli.table import make_table, plain_lines
from cloister.control import Register
from cloister.places import Places, current_places
from cloister.running import Usage, compare, take_sample

HELP = """Show each enclave's processor and memory use, live; q or Ctrl-C ends it.

  cloister top                  a table that is renewed; lines where standard output is no terminal
  cloister top --once           measure for one interval, print, end
  cloister top --once --json    the same for programs; without --once, one JSON array a line

CPU is of supervisor and virtual machine together, 100 % being one processor; VCPUS is each vCPU alone.
GUEST is the guest's memory that is really there, of what it may have; SUPERVISOR and MACHINE (QEMU and its
jail) are their own memory, without the guest's."""

HEADER = ("NAME", "CID", "CPU %", "VCPUS %", "GUEST", "SUPERVISOR", "MACHINE")
MIB = 1 << 20
SIGNAL_BASE = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--once", action="store_true", help="measure once")
    parser.add_argument("--json", action="store_true", help="print JSON; sizes are in bytes")
    parser.add_argument(
        "--interval", metavar="S", type=seconds, default=1.0, help="seconds to measure for; default: 1"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and show until interrupted."""
    measured = measurements(current_places(), args.interval)
    try:
        if args.once:
            _print(next(measured), as_json=args.json, indent=2)
        elif args.json or not sys.stdout.isatty():
            for usages in measured:
                _print(usages, as_json=args.json, indent=None)
        else:
            _show_live(current_places(), args.interval)
    except KeyboardInterrupt:
        return 0 if not args.once else 130
    return 0


def measurements(
    places: Places, interval: float, pause: Callable[[float], None] = time.sleep
) -> Iterator[list[Usage]]:
    """Yield, each interval, what every enclave that lived through it used: the busiest first."""
    register = Register(places.run)
    before = {entry.enclave_id: take_sample(entry) for entry in register.live()}
    while True:
        pause(interval)
        after = {entry.enclave_id: take_sample(entry) for entry in register.live()}
        pairs = [(before.get(enclave_id), sample) for enclave_id, sample in after.items()]
        usages = [compare(old, new) for old, new in pairs if old is not None and new is not None]
        yield sorted(usages, key=lambda usage: -usage.cpu_percent)
        before = after


def rows(usages: list[Usage]) -> list[list[str]]:
    """Return the lines for people."""
    return [
        [
            usage.name,
            str(usage.cid),
            f"{usage.cpu_percent:.0f}",
            " ".join(f"{percent:.0f}" for percent in usage.vcpu_percents) or "?",
            f"{usage.guest_bytes / MIB:.0f} of {usage.guest_size / MIB:.0f} MiB",
            f"{usage.supervisor_bytes / MIB:.0f} MiB",
            f"{usage.machine_bytes / MIB:.0f} MiB",
        ]
        for usage in usages
    ]


def _print(usages: list[Usage], *, as_json: bool, indent: int | None) -> None:
    if as_json:
        print(json.dumps([usage.to_json() for usage in usages], indent=indent), flush=True)
    else:
        print("\n".join(plain_lines(HEADER, rows(usages))), flush=True)


def _show_live(places: Places, interval: float) -> None:
    from rich.console import Console  # noqa: PLC0415 -- costs a tenth of a second that scripts need not pay
    from rich.live import Live  # noqa: PLC0415

    for number in (signal.SIGTERM, signal.SIGHUP):  # they too leave the terminal as it was
        signal.signal(number, lambda number, _frame: sys.exit(SIGNAL_BASE + number))
    console = Console()
    with (
        Live(make_table(HEADER, []), console=console, screen=True, auto_refresh=False) as live,
        _keys() as pause,
    ):
        for usages in measurements(places, interval, pause):
            live.update(make_table(HEADER, rows(usages)), refresh=True)


@contextmanager
def _keys() -> Iterator[Callable[[float], None]]:
    """Give a pause that q ends; without a terminal to read from, one that nothing ends."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield time.sleep
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    try:
        tty.setcbreak(keys)
        yield lambda seconds: _pause(keys, seconds)
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _pause(keys: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([keys], [], [], left)[0] and os.read(keys, 1) in (b"q", b"Q", b""):
            raise KeyboardInterrupt
