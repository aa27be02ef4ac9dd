"""``nitro-cli console``: what a debug enclave prints, from its start. Spec: nitro-tools 1.3, 1.7."""

import argparse
import os
import socket
import sys
import time

from cloister.cli.nitro.describe_enclaves import check_answers, find_by_id, find_by_name
from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.run_enclave import U32_MAX
from cloister.control import Register, Request, ask
from cloister.places import current_places
from cloister.transport import TransportError, open_stream

HYPERVISOR_CID = 0
PORT_OFFSET = 10000
CONNECT_SECONDS = 20.0
READ_SIZE = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare AWS's options."""
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--enclave-id", metavar="enclave-id", help="id of the enclave")
    either.add_argument("--enclave-name", metavar="enclave-name", help="name of the enclave")
    parser.add_argument("--disconnect-timeout", metavar="seconds", help="disconnect after this many seconds")


def run(args: argparse.Namespace) -> int:
    """Copy the console to stdout until its end, or the timeout."""
    run_directory = current_places().run
    records = Register(run_directory).live()
    if args.enclave_name is not None:
        record = find_by_name(records, args.enclave_name)
    else:
        record = find_by_id(records, args.enclave_id)
    seconds = None if args.disconnect_timeout is None else _seconds(args.disconnect_timeout)
    answers = ask(run_directory, [record], Request("describe"))
    check_answers(answers)
    reply = answers[0].reply
    if reply is None or reply.body.get("Flags") != "DEBUG_MODE":
        raise NitroCliError(
            "E44",
            "Enclave console connection failure. The enclave was not started with the debug flag set, "
            "include '--debug-mode' in the run-enclave command",
            action="Connect to enclave console",
        )
    attach_console(record.cid, seconds)
    return 0


def attach_console(cid: int, seconds: float | None) -> None:
    """Copy a console to stdout; raises NitroCliError E44, E45, E46."""
    deadline = None if seconds is None else time.monotonic() + seconds
    print(f"Connecting to the console for enclave {cid}...", file=sys.stderr, flush=True)
    try:
        stream = open_stream(HYPERVISOR_CID, cid + PORT_OFFSET, timeout=CONNECT_SECONDS)
    except TransportError as error:
        raise NitroCliError(
            "E44", f"Enclave console connection failure. {error}", action="Connect to enclave console"
        ) from None
    print("Successfully connected to the console.", file=sys.stderr, flush=True)
    with stream:
        _copy(stream, deadline)


def _copy(stream: socket.socket, deadline: float | None) -> None:
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
        _write(output, chunk)


def _write(output: int, chunk: bytes) -> None:
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


def _seconds(text: str) -> float:
    if not text.isascii() or not text.isdigit() or int(text) > U32_MAX:
        raise NitroCliError(
            "E03",
            f"Invalid argument provided. The parameter `disconnect-timeout` is not a valid integer "
            f"(`{text}`)",
            action="Parse disconnect-timeout",
        )
    return float(text)
