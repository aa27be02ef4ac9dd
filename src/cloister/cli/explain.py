"""``cloister explain``: what one of nitro-cli's error codes means, and what to do about it on this host."""

import argparse
from typing import Final

from cloister.cli.nitro.codes import NAMES, TEXTS
from cloister.errors import CloisterError

HELP = """Say what an error code of nitro-cli means and what to do about it on a host with Cloister.

  cloister explain E58

nitro-cli's own explain does not know E57, E58 and E59; this does."""

_NEVER: Final = "It cannot arise here: "
ADVICE: Final = {
    "E00": "Read the last line of the message, and the error log it names, which says where it happened.",
    "E01": "Give the argument that the message names; 'nitro-cli help COMMAND' lists them.",
    "E02": "Give one of the two, not both.",
    "E03": "Correct the value; the message ends with what was expected.",
    "E04": _NEVER + "the socket to the supervisor fails only when this process may open no more files.",
    "E05": _NEVER + "a supervisor that cannot be started is E36 or E29.",
    "E06": _NEVER + "a supervisor that cannot be started is E36 or E29.",
    "E07": "Let your user read the directory of sockets (NITRO_CLI_SOCKETS_PATH).",
    "E08": _NEVER + "there is no enclave descriptor; the machine is a process of this host.",
    "E09": _NEVER + "closing a socket is not checked.",
    "E10": _NEVER + "time limits are set without asking the kernel.",
    "E11": "Look for the id in 'nitro-cli describe-enclaves': the enclave has ended, or the id is mistyped.",
    "E12": _NEVER + "a failing event loop ends the supervisor, and is E39 here.",
    "E13": _NEVER + "the supervisor looks after its socket without inotify's limits.",
    "E14": _NEVER + "a request that a supervisor does not know is answered with a status, E38.",
    "E15": _NEVER + "one thread owns an enclave's state.",
    "E16": _NEVER + "no result is waited for in another thread.",
    "E17": "Correct the JSON of the --config file; the message says which key.",
    "E18": _NEVER + "the log's permissions are set when it is made and never changed.",
    "E19": "Look at the path in the message: does it exist, and may your user open it? For the log set "
    "NITRO_CLI_LOGS_PATH; for what set-up makes run 'cloister setup'.",
    "E20": "Name each CPU once.",
    "E21": "Name CPUs of the pool; the message says which it has.",
    "E22": "Ask for fewer CPUs, or enlarge the pool in /etc/nitro_enclaves/allocator.yaml.",
    "E23": _NEVER + "lscpu is not read.",
    "E24": _NEVER + "a CPU pool that cannot be read is an error of nitro-enclaves-allocator.",
    "E25": _NEVER + "the kernel says which huge pages there are.",
    "E26": "Give --memory at least what the message names: four times the image.",
    "E27": "Ask for less memory, end another enclave, or enlarge memory_mib in "
    "/etc/nitro_enclaves/allocator.yaml.",
    "E28": _NEVER + "there is no /dev/nitro_enclaves; a machine that cannot be made is E29.",
    "E29": "Read the last line of the message: it says why the machine could not be started. "
    "'cloister doctor' checks the host.",
    "E30": _NEVER + "there is no /dev/nitro_enclaves.",
    "E31": _NEVER + "there is no /dev/nitro_enclaves; memory that cannot be had is E27.",
    "E32": _NEVER + "there is no /dev/nitro_enclaves; CPUs that cannot be had are E20 to E22.",
    "E33": _NEVER + "there is no /dev/nitro_enclaves; a machine that cannot be started is E29.",
    "E34": "The image is larger than an enclave may hold; build a smaller one.",
    "E35": "The file is no enclave image, or damaged: try 'cloister image describe FILE', or build it again.",
    "E36": "Run it with --debug-mode --attach-console and read what the kernel and init say.",
    "E37": _NEVER + "a failing event loop ends the supervisor, and is E39 here.",
    "E38": "Enclaves belong to the user who started them: be that user, or root.",
    "E39": "After a failed run-enclave read the error above it. Otherwise the supervisor hangs or was "
    "killed: try 'nitro-cli describe-enclaves' again, then read the log.",
    "E40": _NEVER + "every id has a path; one that is not there is E11.",
    "E41": _NEVER + "a supervisor whose command has gone carries on.",
    "E42": _NEVER + "memory that cannot be had is E27.",
    "E43": _NEVER + "memory is given back by the kernel when the process ends.",
    "E44": "Only an enclave started with --debug-mode has a console.",
    "E45": "The console broke off: the supervisor has ended. 'nitro-cli describe-enclaves' says whether.",
    "E46": "The console's output could not be written: the disk is full, or the terminal is gone.",
    "E47": _NEVER + "CIDs come from the register as numbers.",
    "E48": "Read the last line of the message; 'cloister kit list' shows the guest kits there are.",
    "E49": "Read what buildah said above; an image that is built already needs no --docker-dir.",
    "E50": "Read the last line of the message, which names every place; oci-archive:FILE needs no registry.",
    "E51": "Set HOME, or NITRO_CLI_ARTIFACTS to a directory.",
    "E52": _NEVER + "AWS's tool no longer uses it either; the guest kit has a default.",
    "E53": _NEVER + "time limits are kept by a clock that cannot be set.",
    "E54": _NEVER + "no signals are held back.",
    "E55": _NEVER + "no signals are held back.",
    "E56": "Correct RUST_LOG: off, error, warn, info, debug or trace, alone or as nitro_cli=LEVEL.",
    "E57": "The file is not what is to be measured: --signing-certificate wants a PEM certificate.",
    "E58": "Look for the name in 'nitro-cli describe-enclaves'; if two share it use --enclave-id.",
    "E59": "The image's signature or its certificate is not valid, or expired: sign it again.",
    "E60": "Give a PEM certificate and the private key that belongs to it.",
}
"""What to do on a host with Cloister, for every code."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the code."""
    parser.add_argument("code", metavar="CODE", help="such as E58")


def run(args: argparse.Namespace) -> int:
    """Print name, AWS's meaning and the advice; raises CloisterError for what is no code."""
    code = args.code.upper()
    if code not in TEXTS:
        raise CloisterError(f"There is no error code {args.code}; expected E00 to E{len(NAMES) - 1}.")
    print(f"{code} {NAMES[int(code[1:])]}\n")
    print(f"Meaning: {TEXTS[code]}\n")
    print(f"On this host: {ADVICE[code]}")
    return 0
