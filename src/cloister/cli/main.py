"""``cloister``: one command, one verb a file; only the chosen verb's module is imported."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from cloister import __version__
from cloister.cli.streams import flush_help, open_closed_streams, silence_both, tell_failure
from cloister.cli.table import plain
from cloister.errors import CloisterError

VERBS = {
    "setup": "prepare this host: system packages, VMM jail, guest kit, root of trust, KMS account",
    "doctor": "check every precondition and say how to mend what is missing",
    "demo": "run the whole loop: build, boot, attest, release a secret to that code and to nothing else",
    "kit": "the guest kit (kernel, init, command line): build, list, use, export, import",
    "image": "enclave images: build, describe, lint, compare, list, unpack, verify, make policies for",
    "run": "build an image if needed and run it as an enclave, to its end: one line for CI",
    "ps": "list enclaves, the running ones or all that are remembered",
    "logs": "what an enclave printed (debug mode) and what happened to it, living or dead",
    "wait": "wait for an enclave's end and exit with its program's status",
    "stop": "end enclaves",
    "top": "processor and memory use of each enclave, live",
    "attestation": "attestation documents: ask an enclave for one, verify, show, compare",
    "inspect": "how well a running enclave is kept apart, measured from /proc",
    "kms": "the key service: serve it, read its decisions",
    "pki": "the root of trust: make, show, export or replace it, take its key offline, share it",
    "host": "who this host is: the role and instance that documents name, their encoding",
    "explain": "nitro-cli's error codes: what they mean, and what to do about them on this host",
    "completion": "print a completion script for your shell",
}


class Verb(Protocol):
    """What a verb's module offers."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code."""


def load_verb(name: str) -> Verb:
    """Import the module that implements a verb."""
    module: Verb = importlib.import_module(f"cloister.cli.{name}")
    return module


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser, complete for the chosen verb, or for all of them when ``chosen`` is ``"*"``."""
    parser = argparse.ArgumentParser(
        prog="cloister",
        description="An open implementation of AWS Nitro Enclaves for any Linux machine.",
        epilog="Start with 'cloister setup', then 'cloister demo'. "
        "The commands nitro-cli and vsock-proxy speak AWS's own grammar.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", "-V", action="version", version=f"cloister {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        wanted = chosen in (name, "*")
        description = load_verb(name).HELP if wanted else None
        verb_parser = verbs.add_parser(
            name,
            help=summary,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if wanted:
            load_verb(name).add_arguments(verb_parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 refused or failed, 2 wrong usage."""
    open_closed_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except SystemExit:  # argparse's, after help or wrong usage
        flush_help()
        raise
    except CloisterError as error:
        said = "\n".join(
            plain(line) for line in str(error).splitlines()
        )  # it may quote a name from elsewhere
        with suppress(OSError):
            print(f"cloister: {said}", file=sys.stderr, flush=True)
        return 1
    except BrokenPipeError:
        silence_both()
        return 1
    except OSError as error:
        tell_failure("cloister", error)
        return 1
    except KeyboardInterrupt:
        with suppress(OSError):
            print("cloister: interrupted", file=sys.stderr, flush=True)
        return 130


def _run(words: list[str]) -> int:
    chosen = next((word for word in words if not word.startswith("-")), None)
    args = build_parser(chosen).parse_args(words)
    return load_verb(args.verb).run(args)


if __name__ == "__main__":
    sys.exit(main())
