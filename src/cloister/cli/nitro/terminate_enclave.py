"""``nitro-cli terminate-enclave``: end one enclave or all. Spec: nitro-tools 1.3, 1.4."""

import argparse
import json
import sys

from cloister.cli.nitro.describe_enclaves import check_answers, find_by_id, find_by_name
from cloister.control import Register, terminate
from cloister.places import current_places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare AWS's options, of which one must be given."""
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--enclave-id", metavar="enclave-id", help="id of the enclave")
    either.add_argument("--enclave-name", metavar="enclave-name", help="name of the enclave")
    either.add_argument("--all", action="store_true", help="terminate every enclave")


def run(args: argparse.Namespace) -> int:
    """End enclaves; each is gone, with everything it used, when its line is printed."""
    run_directory = current_places().run
    records = Register(run_directory).live()
    if args.enclave_name is not None:
        records = [find_by_name(records, args.enclave_name)]
    elif args.enclave_id is not None:
        records = [find_by_id(records, args.enclave_id)]
    answers = [terminate(run_directory, record) for record in records]
    bodies = []
    for answer in answers:
        if answer.reply is not None and answer.reply.status == 0:
            print(f"Successfully terminated enclave {answer.record.enclave_id}.", file=sys.stderr)
            bodies.append(answer.reply.body)
    if args.all:
        print(json.dumps(bodies, indent=2), flush=True)
    elif bodies:
        print(json.dumps(bodies[0], indent=2), flush=True)
    check_answers(answers)
    return 0
