"""``cloister wait``: until an enclave's end, and then its program's status."""

import argparse
import json
import sys

from cloister.cli.options import seconds
from cloister.cli.table import plain
from cloister.places import current_places
from cloister.running import FAILED, TIMED_OUT, RunningError, await_end, exit_code, explain, find_enclave

HELP = """Wait for an enclave's end and exit with its program's status; at once if it is over already.

  cloister run job.eif --detach
  cloister wait job && echo done
  cloister wait job --timeout 60

exit codes: the program's, as 'cloister run' gives it; 143 when the enclave was ended from outside;
124 when --timeout is reached, and the enclave goes on;
125 when there is no such enclave or nobody knows how it ended."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "enclave", metavar="NAME|ID", help="name (the newest of that name) or id of the enclave"
    )
    parser.add_argument("--timeout", metavar="S", type=seconds, help="give up after so many seconds")
    parser.add_argument("--json", action="store_true", help="print the enclave's record as JSON at the end")


def run(args: argparse.Namespace) -> int:
    """Wait and return the code."""
    places = current_places()
    try:
        enclave = find_enclave(places, args.enclave)
        record = await_end(places, enclave, args.timeout)
    except TimeoutError:
        _say(f"{args.enclave} has not ended within {args.timeout:g} s.")
        return TIMED_OUT
    except RunningError as error:
        _say(str(error))
        return FAILED
    code = exit_code(record)
    if args.json:
        print(json.dumps(record.to_json() | {"ExitCode": code, "Explanation": explain(record)}, indent=2))
    elif code != 0:
        _say(f"{enclave.name}: {explain(record)}")
    return code


def _say(text: str) -> None:
    print(f"cloister: {plain(text)}", file=sys.stderr, flush=True)
