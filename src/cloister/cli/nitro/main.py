"""``nitro-cli``: the frame of all nine commands. Grammar, log and error model of nitro-tools 1.1 to 1.3.

The command line is read first, then the log is opened, then the command runs: wrong usage exits with 2 even
where nothing can be logged, and every command fails with E19 there. Only the chosen command is imported.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from cloister.cli.nitro.errors import TOOL_VERSION, NitroCliError
from cloister.cli.nitro.grammar import (
    Arguments,
    Command,
    Option,
    UsageExit,
    help_text,
    parse,
    refuse_argument,
    refuse_command,
)
from cloister.cli.nitro.log import Log, keep_backtrace
from cloister.cli.streams import open_closed_streams, silence, silence_both
from cloister.errors import CloisterError, root_of
from cloister.places import Places, current_places

PROGRAM = "nitro-cli"
COMMANDS = {
    "run-enclave": "Starts a new enclave",
    "terminate-enclave": "Terminates an enclave",
    "build-enclave": "Builds an enclave image and saves it to a file",
    "describe-eif": "Returns information about the EIF found at a given path.",
    "describe-enclaves": "Returns a list of the running enclaves",
    "console": "Connect to the console of an enclave",
    "pcr": "Return the PCR hash value of the given input",
    "explain": "Display detailed information about an error returned by a misbehaving Nitro CLI command",
    "sign-eif": "Sign EIF with the given key",
}
ACTIONS = {
    "run-enclave": "Run Enclave",
    "terminate-enclave": "Terminate Enclave",
    "build-enclave": "Build Enclave",
    "describe-eif": "Describe EIF",
    "describe-enclaves": "Describe Enclave",
    "console": "Enclave Console",
    "pcr": "File PCR",
    "explain": "Explain Error",
    "sign-eif": "Sign EIF",
}
"""What the error log calls a command."""
INTERRUPTED = 130
"""As a shell has it: 128 and the number of the signal, SIGINT."""
BROKEN_PIPE = 141
"""Likewise, SIGPIPE."""


class Verb(Protocol):
    """What a command's module offers."""

    OPTIONS: tuple[Option, ...]

    def run(self, args: Any) -> int:
        """Do it and return the exit code."""


def load_command(name: str) -> Verb:
    """Import the module that implements a command."""
    module: Verb = importlib.import_module(f"cloister.cli.nitro.{name.replace('-', '_')}")
    return module


def program() -> Command:
    """Return the grammar before the command's name."""
    return Command(
        PROGRAM, "CLI for enclave lifetime management", commands=COMMANDS, version=f"Nitro CLI {TOOL_VERSION}"
    )


def command(name: str) -> Command:
    """Return one command's grammar."""
    return Command(f"{PROGRAM} {name}", COMMANDS[name], load_command(name).OPTIONS)


def read(words: Sequence[str]) -> tuple[str, Arguments]:
    """Return the command's name and its options; raises UsageExit."""
    root = program()
    first, *rest = words or ["--"]
    if first not in COMMANDS:
        _refuse(root, first, rest)
    return first, parse(command(first), rest)


def _refuse(root: Command, first: str, rest: Sequence[str]) -> NoReturn:
    """Answer what begins with no command: a question for help or the version, or wrong usage."""
    if first == "help":
        raise UsageExit(_help_on(rest), 0)
    if first == "--":
        if rest:
            tip = f"subcommand '{rest[0]}' exists; to use it, remove the '--' before it"
            refuse_argument(root, rest[0], tip=tip if rest[0] in COMMANDS else None)
        raise UsageExit(help_text(root), 2)
    if first.startswith("-") and len(first) > 1:
        try:
            parse(root, [first])
        except UsageExit as usage:
            _refuse_misplaced(root, first, rest, usage)
            raise
    refuse_command(root, first)


def _refuse_misplaced(root: Command, word: str, rest: Sequence[str], usage: UsageExit) -> None:
    """Refuse, before the command, an option that belongs after it, and say so; raises UsageExit."""
    if usage.code == 0 or not word.startswith("--") or "  tip: " in usage.text:
        return
    from cloister.cli.nitro.similar import similar  # noqa: PLC0415 -- most command lines are right

    name = word[2:].partition("=")[0]
    for other in dict.fromkeys(rest):
        if other in COMMANDS:
            known = similar(name, [*(option.name for option in command(other).options), "help"])
            if known:
                refuse_argument(root, f"--{name}", tip=f"'{other} --{known[-1]}' exists")


def _help_on(words: Sequence[str]) -> str:
    if not words:
        return help_text(program())
    name, *more = words
    if name == "help":
        return (
            "Print this message or the help of the given subcommand(s)\n\n"
            f"Usage: {PROGRAM} help [COMMAND]...\n\n"
            "Arguments:\n  [COMMAND]...  Print help for the subcommand(s)\n"
        )
    if name not in COMMANDS:
        refuse_command(program(), name, suggest=False)
    chosen = command(name)
    if more:
        refuse_command(chosen, more[0], suggest=False)
    return help_text(chosen)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for wrong usage, or the number of the error."""
    open_closed_streams()
    try:
        name, args = read(list(sys.argv[1:] if argv is None else argv))
        return _run(name, args)
    except UsageExit as usage:
        _show_usage(usage)
        return usage.code
    except BrokenPipeError:
        silence_both()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(name: str, args: Arguments) -> int:
    try:
        places = current_places()
    except RuntimeError:  # pathlib's, for a user without HOME and without an entry in passwd
        places = Places.from_environment(os.environ, root=os.geteuid() == 0, home=Path("/nonexistent"))
    log: Log | None = None
    action = "Logger initialization"
    try:
        log = Log(places.logs)
        action = ACTIONS[name]
        log.write("INFO", "Start Nitro CLI")
        log.write("DEBUG", f"Command: {name}")
        code = load_command(name).run(args)
        sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except NitroCliError as error:
        if isinstance(error.__cause__, NitroCliError):  # a failed run: its own error, then the lost process
            report(error.__cause__, action, places, log)
            print("Failed connections: 1", file=sys.stderr)
        code = report(error, action, places, log)
    except Exception as error:  # noqa: BLE001 -- nobody sees a traceback; the error log says where it was
        code = report(_unspecified(error), action, places, log)
    finally:
        if log is not None:
            log.close()
    return code


def _unspecified(error: Exception) -> NitroCliError:
    """Give an error that has no number of its own one."""
    where = root_of(error)
    if isinstance(error, CloisterError):
        return NitroCliError("E00", f"Unspecified error. {error}", where=where)
    if isinstance(error, OSError):
        file = error.filename if isinstance(error.filename, str) else "standard output"
        if error.filename is None:
            silence(sys.stdout)
        text = f"File operation failure. {error.strerror}.\nFile: '{file}', failing operation: 'Write'."
        return NitroCliError("E19", text, where=where)
    text = f"Unspecified error. {type(error).__name__} in nitro-cli: {error}"
    return NitroCliError("E00", text, where=where)


def report(error: NitroCliError, action: str, places: Places, log: Log | None) -> int:
    """Show an error as nitro-cli does, keep its log, and return its exit code."""
    backtrace = error.to_backtrace(action)
    path = keep_backtrace(places.logs, backtrace)
    asked = os.environ.get("BACKTRACE") == "1"
    print(error.to_text(path, backtrace=backtrace if asked else None), file=sys.stderr)
    if log is not None:
        where = error.where or root_of(error)
        log.write("ERROR", f"[ {error.code} ] {error.to_detail()}", where=where)
    return error.exit_code


def _show_usage(usage: UsageExit) -> None:
    stream = sys.stdout if usage.code == 0 else sys.stderr
    try:
        print(usage.text, end="", file=stream, flush=True)
    except OSError:  # nobody reads, or the disk is full
        silence(stream)


if __name__ == "__main__":
    sys.exit(main())
