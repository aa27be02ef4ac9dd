"""``cloister demo``: the main job, end to end, for a person to read."""

import argparse
import os
import signal
import sys
import time

from cloister.demo import DemoError, run_demo
from cloister.places import current_places

HELP = """Build an image, boot it, attest it, release a secret to it and to nothing else.

Runs the real commands in a private directory and shows each with what it prints. Needs 'cloister setup'.
The last line is 'demo: ok'; otherwise it says which step failed and why, and the exit code is 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options: the demo is one story."""
    parser.set_defaults()


def run(_: argparse.Namespace) -> int:
    """Play the demo."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        run_demo(current_places(), os.environ, lambda text: print(text, flush=True))
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    print(f"\nThe whole loop took {time.monotonic() - started:.0f} s.")
    print("demo: ok")
    return 0
