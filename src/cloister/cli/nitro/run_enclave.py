"""``nitro-cli run-enclave``: start an enclave. Spec: nitro-tools 1.3, 1.4, 1.6, 1.8."""

import os
import sys
from pathlib import Path
from typing import Any

from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.grammar import Arguments, Option
from cloister.cli.nitro.json_text import print_json
from cloister.cli.nitro.numbers import U32_MAX, U64_MAX, check_cid, parse_memory, parse_unsigned
from cloister.control import EnclaveFailure
from cloister.errors import root_of
from cloister.places import Places, current_places
from cloister.resources import PoolError, load_pool
from cloister.supervisor import RunRequest, launch

OPTIONS = (
    Option(
        "cpu-ids",
        "List of cpu-ids that will be provided to the enclave",
        "cpu-ids",
        many=True,
        unless=("cpu-count", "config"),
        conflicts=("cpu-count", "config"),
    ),
    Option(
        "cpu-count",
        "Number of cpus",
        "cpu-count",
        unless=("cpu-ids", "config"),
        conflicts=("cpu-ids", "config"),
    ),
    Option(
        "memory",
        "Memory to allocate for the enclave in MB. "
        "Depending on the available pages, more might be allocated.",
        "memory",
        unless=("config",),
        conflicts=("config",),
    ),
    Option(
        "eif-path",
        "Path pointing to a prebuilt Eif image",
        "eif-path",
        unless=("config",),
        conflicts=("config",),
    ),
    Option(
        "enclave-cid",
        "CID to be used for the newly started enclave",
        "enclave-cid",
        conflicts=("config",),
    ),
    Option(
        "debug-mode",
        "Starts enclave in debug-mode. This makes the console of the enclave available over vsock at CID: "
        "VMADDR_CID_HYPERVISOR (0), port: enclave_cid + 10000. \n"
        " The stream could be accessed with the console sub-command",
        conflicts=("config",),
    ),
    Option(
        "attach-console",
        "Attach the enclave console immediately after starting the enclave. (implies debug-mode)",
    ),
    Option(
        "enclave-name",
        "Custom name assigned to the enclave by the user",
        "enclave-name",
        conflicts=("config",),
    ),
    Option("config", "Config is used to read enclave settings from JSON file", "json-config"),
)


def run(args: Arguments) -> int:
    """Start an enclave; prints its description on stdout and what goes on on stderr."""
    attach = args.attach_console
    if args.config is not None:
        from cloister.cli.nitro.run_config import read_config  # noqa: PLC0415 -- start-up time of the rest

        request, attach = read_config(Path(args.config), attach=attach)
    else:
        request = request_from(args)
    places = current_places()
    _say_relaxed(places)
    try:
        description = _launch(request, places)
    except EnclaveFailure as failure:
        cause = NitroCliError(
            failure.code,
            failure.message,
            action=failure.action,
            subactions=failure.subactions,
            where=failure.where or root_of(failure),
        )
        raise NitroCliError(
            "E39",
            "Failed to connect to 1 enclave processes: it has ended, and its error is above.",
            action="Failed to handle all enclave process replies",
        ) from cause
    print_json(description)
    if attach:
        from cloister.cli.nitro.console import attach_console  # noqa: PLC0415 -- start-up time of the rest

        attach_console(int(description["EnclaveCID"]), None)
    return 0


def _launch(request: RunRequest, places: Places) -> dict[str, Any]:
    for news in launch(request, places):
        if news.description is not None:
            return news.description
        print(news.text, file=sys.stderr, flush=True)
    raise EnclaveFailure("E36", "Enclave boot failure. The enclave's process said nothing.")


def _say_relaxed(places: Places) -> None:
    try:
        pool = load_pool(places.run)
    except PoolError:
        return  # launching fails with it
    if pool is None:
        text = "no CPU pool is configured (relaxed mode)"
    elif pool.relaxed:
        text = "the CPU pool is relaxed"
    else:
        return
    shared = len(os.sched_getaffinity(0)) if pool is None else len(pool.cpus)
    print(f"Note: {text}: the enclave shares this host's CPUs, {shared} in all.", file=sys.stderr)


def request_from(args: Arguments) -> RunRequest:
    """Read the options' values, in AWS's order; raises NitroCliError E03."""
    count = None if args.cpu_count is None else parse_unsigned("cpu-count", args.cpu_count, most=U32_MAX)
    cid = None if args.enclave_cid is None else parse_unsigned("enclave-cid", args.enclave_cid, most=U64_MAX)
    cid = check_cid(cid)
    memory = parse_memory(args.memory)
    ids = None
    if args.cpu_ids is not None:
        ids = tuple(parse_unsigned("cpu-id", word, most=U32_MAX) for word in args.cpu_ids)
    return RunRequest(
        eif_path=Path(args.eif_path),
        memory_mib=memory,
        cpu_ids=ids,
        cpu_count=count,
        cid=cid,
        debug=args.debug_mode or args.attach_console,
        name=args.enclave_name,
    )
