"""``nitro-cli console``: what a debug enclave prints, from its start. Spec: nitro-tools 1.3, 1.7."""

import os
import socket
import sys
import time

from cloister.cli.nitro.describe_enclaves import (
    check_answers,
    find_by_id,
    find_by_name,
    live_enclaves,
    say_lost,
)
from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.grammar import Arguments, Option
from cloister.cli.nitro.numbers import U64_MAX, parse_unsigned
from cloister.control import Request, ask
from cloister.places import current_places
from cloister.transport import TransportError, open_stream

HYPERVISOR_CID = 0
PORT_OFFSET = 10000
CONNECT_SECONDS = 20.0
READ_SIZE = 1024
LONGEST_SECONDS = 1e8
"""What a socket's time limit can be (three years); longer ones are cut to it."""


OPTIONS = (
    Option(
        "enclave-id",
        "Enclave ID, used to uniquely identify an enclave",
        "enclave-id",
        unless=("enclave-name",),
        conflicts=("enclave-name",),
    ),
    Option(
        "disconnect-timeout",
        "The time in seconds after the console disconnects from the enclave",
        "disconnect-timeout",
    ),
    Option(
        "enclave-name",
        "Enclave name, used to uniquely identify an enclave",
        "enclave-name",
        unless=("enclave-id",),
        conflicts=("enclave-id",),
    ),
)


def run(args: Arguments) -> int:
    """Copy the console to stdout until its end, or the timeout."""
    run_directory = current_places().run
    records = live_enclaves(run_directory)
    if args.enclave_name is not None:
        record = find_by_name(records, args.enclave_name)
    else:
        record = find_by_id(records, args.enclave_id)
    seconds = args.disconnect_timeout
    if seconds is not None:
        seconds = parse_unsigned("disconnect-timeout", seconds, most=U64_MAX)
    answers = ask(run_directory, [record], Request("describe"))
    say_lost(answers)
    check_answers(answers)
    reply = answers[0].reply
    if reply is None or reply.body.get("Flags") != "DEBUG_MODE":
        raise NitroCliError(
            "E44",
            "Enclave console connection failure. The enclave was not started with the debug flag set, "
            "include '--debug-mode' in the run-enclave command",
            action="Failed to connect to enclave console",
        )
    attach_console(record.cid, seconds)
    return 0


def attach_console(cid: int, seconds: int | None) -> None:
    """Copy a console to stdout, for at most so many seconds; raises NitroCliError E44, E45, E46."""
    print(f"Connecting to the console for enclave {cid}...", file=sys.stderr, flush=True)
    try:
        stream = open_stream(HYPERVISOR_CID, cid + PORT_OFFSET, timeout=CONNECT_SECONDS)
    except TransportError as error:
        raise NitroCliError(
            "E44",
            f"Enclave console connection failure. {error}",
            action="Failed to connect to enclave console",
        ) from None
    print("Successfully connected to the console.", file=sys.stderr, flush=True)
    with stream:
        copy_console(stream, None if seconds is None else time.monotonic() + min(seconds, LONGEST_SECONDS))


def copy_console(stream: socket.socket, deadline: float | None) -> None:
    """Copy until the stream's end or the monotonic ``deadline``; raises NitroCliError E45, E46."""
    output = sys.stdout.fileno()
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return
        stream.settimeout(left)
        try:
            chunk = stream.recv(READ_SIZE)
        except TimeoutError:
            return
        except OSError as error:
            raise NitroCliError(
                "E45", f"Enclave console read error. {error.strerror}.", action="Read from enclave console"
            ) from None
        if not chunk:
            return
        write_console(output, chunk)


def write_console(output: int, chunk: bytes) -> None:
    """Write all of it to a descriptor; raises NitroCliError E46."""
    while chunk:
        try:
            chunk = chunk[os.write(output, chunk) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise NitroCliError(
                "E46",
                f"Enclave console write output error. {error.strerror}.",
                action="Write enclave console output",
            ) from None
