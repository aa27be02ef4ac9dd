"""``nitro-cli describe-enclaves``: the enclaves that run. Spec: nitro-tools 1.3, 1.4, 1.6."""

import errno
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.grammar import Arguments, Option
from cloister.cli.nitro.json_text import print_json
from cloister.control import Answer, Record, Register, Request, ask
from cloister.places import current_places

ANSWER_SECONDS = 3.0
OPTIONS = (Option("metadata", "Adds EIF metadata of the current enclaves to the command output."),)


def run(args: Arguments) -> int:
    """Print what every supervisor says of its enclave, oldest first."""
    run_directory = current_places().run
    answers = ask(run_directory, live_enclaves(run_directory), Request("describe", metadata=args.metadata))
    bodies = [answer.reply.body for answer in answers if answer.reply is not None]
    if any(body.get("Flags") == "DEBUG_MODE" for body in bodies):
        print(
            "Warning: the PCRs shown for an enclave in debug mode are its image's; "
            "its attestation documents show zeros.",
            file=sys.stderr,
        )
    say_lost(answers)
    print_json(bodies)
    check_answers(answers)
    return 0


def live_enclaves(run_directory: Path) -> list[Record]:
    """Return the enclaves of this host's user; raises NitroCliError E07.

    A directory of sockets that does not exist yet is one without enclaves.
    """
    try:
        names = set(os.listdir(run_directory))  # noqa: PTH208 -- the register passes over what it cannot read
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NitroCliError(
            "E07",
            f"Read from disk failure. The directory of sockets {run_directory} cannot be read: "
            f"{error.strerror}.",
            action="Failed to send command to all enclave processes",
        ) from None
    records = Register(run_directory).live()
    for name in names:
        if name.endswith(".sock") and name.removesuffix(".sock") + ".json" not in names:
            _remove_if_stale(run_directory, name)
    return records


def _remove_if_stale(run_directory: Path, name: str) -> None:
    """Remove a socket without a record at which nobody listens; what may not be asked is left alone."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        directory = os.open(run_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # a socket's path has at most 107 bytes (unix(7))
            probe.settimeout(ANSWER_SECONDS)
            probe.connect(f"/proc/self/fd/{directory}/{name}")
        except (PermissionError, TimeoutError):
            return
        except OSError:
            os.unlink(name, dir_fd=directory)
        finally:
            os.close(directory)


def say_lost(answers: Sequence[Answer]) -> None:
    """Count the supervisors that did not answer, on stderr, before what the others said."""
    lost = sum(answer.reply is None for answer in answers)
    if lost:
        print(f"Failed connections: {lost}", file=sys.stderr)


def check_answers(answers: Sequence[Answer], *, allowed: tuple[int, ...] = (0,)) -> None:
    """Complain about supervisors that refused (E38) or did not answer (E39); raises NitroCliError."""
    refused = [
        answer.reply.status
        for answer in answers
        if answer.reply is not None and answer.reply.status not in allowed
    ]
    if refused:
        why = "enclaves belong to the user who started them"
        if refused[0] != errno.EACCES:
            why = f"status {refused[0]}"
        raise NitroCliError(
            "E38",
            f"Failed to execute {len(refused)} enclave process commands: {why}.",
            action="Failed to handle all enclave process replies",
        )
    lost = sum(answer.reply is None for answer in answers)
    if lost:
        raise NitroCliError(
            "E39",
            f"Failed to connect to {lost} enclave processes.",
            action="Failed to handle all enclave process replies",
        )


def find_by_name(records: Sequence[Record], name: str) -> Record:
    """Return the one enclave of that name; raises NitroCliError E58."""
    found = [record for record in records if record.name == name]
    if not found:
        raise NitroCliError("E58", "No enclave matched the given name.", action="Get ID by Name")
    if len(found) > 1:
        raise NitroCliError("E58", "Conflicting enclave names have been found.", action="Get ID by Name")
    return found[0]


def find_by_id(records: Sequence[Record], enclave_id: str) -> Record:
    """Return the enclave with that id; raises NitroCliError E11."""
    for record in records:
        if record.enclave_id == enclave_id:
            return record
    raise NitroCliError(
        "E11",
        f"There is no running enclave with the id `{enclave_id}`; "
        "nitro-cli describe-enclaves shows those there are.",
        action="Failed to connect to enclave process",
    )
