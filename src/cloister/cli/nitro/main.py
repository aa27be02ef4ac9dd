"""``nitro-cli``: the frame of all nine commands. Grammar, log and error model of nitro-tools 1.1 to 1.3.

No short options but ``-h`` and ``-V``, no abbreviations; usage errors exit with 2, failures with their
number.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Protocol

from cloister.cli.nitro.errors import TOOL_VERSION, NitroCliError
from cloister.errors import CloisterError
from cloister.places import Places, current_places

COMMANDS = {
    "run-enclave": "Starts a new enclave",
    "terminate-enclave": "Terminates an enclave",
    "build-enclave": "Builds an enclave image and saves it to a file",
    "describe-enclaves": "Returns a list of the running enclaves",
    "console": "Connect to the console of an enclave",
    "describe-eif": "Returns information about the EIF found at a given path",
    "sign-eif": "Sign EIF with the given key",
    "explain": "Display detailed information about an error returned by a misbehaving Nitro CLI command",
    "pcr": "Return the PCR value of the given input",
}
LOG_NAME = "nitro_enclaves.log"


class Command(Protocol):
    """What a command's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code."""


def load_command(name: str) -> Command:
    """Import the module that implements a command."""
    module: Command = importlib.import_module(f"cloister.cli.nitro.{name.replace('-', '_')}")
    return module


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser, complete for the chosen command, or for all of them when it is ``"*"``."""
    parser = argparse.ArgumentParser(
        prog="nitro-cli", description="CLI for enclave lifetime management", allow_abbrev=False
    )
    parser.add_argument("-V", "--version", action="version", version=f"Nitro CLI {TOOL_VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="SUBCOMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if chosen in (name, "*"):
            load_command(name).add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for wrong usage, or the number of the error."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    places = current_places()
    try:
        if chosen in COMMANDS:
            _log(places, f"command {chosen}")  # before the command's own words are looked at, as AWS does
        parser = build_parser(chosen)
        args = parser.parse_args(words)
        if args.command is None:
            parser.print_help(sys.stderr)
            return 2
        return load_command(args.command).run(args)
    except NitroCliError as error:
        if isinstance(error.__cause__, NitroCliError):  # a failed run: its own error, then the lost process
            report(error.__cause__, places)
            print("Failed connections: 1", file=sys.stderr)
        return report(error, places)
    except CloisterError as error:
        return report(NitroCliError("E00", f"Unspecified error. {error}"), places)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130


def report(error: NitroCliError, places: Places) -> int:
    """Show an error as nitro-cli does, keep its log, and return its exit code."""
    stamp = datetime.now(UTC).isoformat().removesuffix("+00:00")
    path = places.logs / f"err{stamp}Z.log"
    with suppress(OSError):
        path.write_text(error.to_backtrace() + "\n")
        path.chmod(0o600)
        _log(places, f"[ {error.code} ] {error.message}", level="ERROR")
    print(error.to_text(str(path), backtrace=os.environ.get("BACKTRACE") == "1"), file=sys.stderr)
    return error.exit_code


def _log(places: Places, message: str, *, level: str = "INFO") -> None:
    """Write to the log; raises NitroCliError E19, since every command needs its log."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    text = message.replace("\n", " ")
    line = f"[nitro-cli:{os.getpid()}][{level}][{now}Z][cli] {text}\n"
    path = places.logs / LOG_NAME
    try:
        places.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path, "ab", buffering=0, opener=_private) as log, suppress(OSError):
            log.write(line.encode())  # a full disk is no reason not to end an enclave
    except OSError as error:
        _no_log(path, error)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _no_log(path: Path, error: OSError) -> NoReturn:
    raise NitroCliError(
        "E19",
        f"File operation failure. The log cannot be written: {error.strerror}."
        f"\nFile: '{path}', failing operation: 'Open'.",
        action="Open log file",
    ) from None


if __name__ == "__main__":
    sys.exit(main())
