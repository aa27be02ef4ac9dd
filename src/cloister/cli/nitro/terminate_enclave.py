"""``nitro-cli terminate-enclave``: end one enclave or all. Spec: nitro-tools 1.3, 1.4."""

import errno
import sys

from cloister.cli.nitro.describe_enclaves import (
    check_answers,
    find_by_id,
    find_by_name,
    live_enclaves,
    say_lost,
)
from cloister.cli.nitro.grammar import Arguments, Option
from cloister.cli.nitro.json_text import print_json
from cloister.control import terminate
from cloister.places import current_places

OPTIONS = (
    Option(
        "enclave-id",
        "Enclave ID, used to uniquely identify an enclave",
        "enclave-id",
        unless=("all", "enclave-name"),
        conflicts=("all", "enclave-name"),
    ),
    Option(
        "all",
        "Terminate all running enclave instances belonging to the current user",
        unless=("enclave-id", "enclave-name"),
        conflicts=("enclave-id", "enclave-name"),
    ),
    Option(
        "enclave-name",
        "Enclave name, used to uniquely identify an enclave",
        "enclave-name",
        unless=("enclave-id", "all"),
        conflicts=("enclave-id", "all"),
    ),
)


def run(args: Arguments) -> int:
    """End enclaves; each is gone, with everything it used, when its line is printed."""
    run_directory = current_places().run
    records = live_enclaves(run_directory)
    if args.enclave_name is not None:
        records = [find_by_name(records, args.enclave_name)]
    elif args.enclave_id is not None:
        records = [find_by_id(records, args.enclave_id)]
    answers = []
    bodies = []
    for record in records:
        answer = terminate(run_directory, record)
        answers.append(answer)
        if answer.reply is not None and answer.reply.status == 0:
            print(f"Successfully terminated enclave {record.enclave_id}.", file=sys.stderr)
            bodies.append(answer.reply.body)
    say_lost(answers)
    if args.all:
        print_json(bodies)
        check_answers(answers, allowed=(0, errno.EACCES))  # "all" means all of this user's
    else:
        for body in bodies:
            print_json(body)
        check_answers(answers)
    return 0
