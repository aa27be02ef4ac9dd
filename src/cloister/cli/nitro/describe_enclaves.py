"""``nitro-cli describe-enclaves``: the enclaves that run. Spec: nitro-tools 1.3, 1.4, 1.6."""

import argparse
import json
import sys
from collections.abc import Sequence

from cloister.cli.nitro.errors import NitroCliError
from cloister.control import Answer, Record, Request, ask_all
from cloister.places import current_places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare AWS's options."""
    parser.add_argument("--metadata", action="store_true", help="add the images' metadata")


def run(args: argparse.Namespace) -> int:
    """Print what every supervisor says of its enclave, oldest first."""
    answers = ask_all(current_places().run, Request("describe", metadata=args.metadata))
    bodies = [answer.reply.body for answer in answers if answer.reply is not None]
    if any(body.get("Flags") == "DEBUG_MODE" for body in bodies):
        print(
            "Warning: the PCRs shown for an enclave in debug mode are its image's; "
            "its attestation documents show zeros.",
            file=sys.stderr,
        )
    print(json.dumps(bodies, indent=2), flush=True)
    check_answers(answers)
    return 0


def check_answers(answers: Sequence[Answer]) -> None:
    """Complain about supervisors that did not answer (E39) or refused (E38)."""
    failed = sum(answer.reply is None for answer in answers)
    if failed:
        print(f"Failed connections: {failed}", file=sys.stderr)
        raise NitroCliError(
            "E39",
            f"Enclave process connection failure. {failed} of {len(answers)} enclave processes "
            "did not answer.",
            action="Connect to enclave process",
        )
    refused = [answer for answer in answers if answer.reply is not None and answer.reply.status != 0]
    if refused:
        raise NitroCliError(
            "E38",
            f"Enclave process command not executed. {len(refused)} of {len(answers)} enclave processes "
            "refused: enclaves belong to the user who started them.",
            action="Execute command",
        )


def find_by_name(records: Sequence[Record], name: str) -> Record:
    """Return the one enclave of that name; raises NitroCliError E58."""
    found = [record for record in records if record.name == name]
    if not found:
        raise NitroCliError("E58", "No enclave matched the given name.", action="Find enclave by name")
    if len(found) > 1:
        raise NitroCliError(
            "E58", "Conflicting enclave names have been found.", action="Find enclave by name"
        )
    return found[0]


def find_by_id(records: Sequence[Record], enclave_id: str) -> Record:
    """Return the enclave with that id; raises NitroCliError E11."""
    for record in records:
        if record.enclave_id == enclave_id:
            return record
    raise NitroCliError(
        "E11",
        f"Socket error. There is no running enclave with the id `{enclave_id}`; "
        "nitro-cli describe-enclaves shows those there are.",
        action="Connect to enclave process",
    )
