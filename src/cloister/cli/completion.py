"""``cloister completion``: a completion script for the shell, made from the grammars themselves."""

import argparse
from typing import Any

import shtab

from cloister.cli.main import build_parser
from cloister.cli.nitro.main import COMMANDS, PROGRAM, command, program

HELP = """Print a completion script, for cloister or for nitro-cli.

  bash:  cloister completion bash > /etc/bash_completion.d/cloister
         cloister completion bash nitro-cli > /etc/bash_completion.d/nitro-cli
  zsh:   cloister completion zsh > "${fpath[1]}/_cloister"
         cloister completion zsh nitro-cli > "${fpath[1]}/_nitro-cli"
"""
_FILES = ("eif-path", "config", "output-file", "signing-certificate", "private-key", "input")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell to complete in")
    parser.add_argument(
        "program", nargs="?", choices=["cloister", PROGRAM], default="cloister", help="what is completed"
    )


def run(args: argparse.Namespace) -> int:
    """Print the script for one shell."""
    parser = nitro_parser() if args.program == PROGRAM else build_parser("*")
    print(shtab.complete(parser, shell=args.shell))
    return 0


def nitro_parser() -> argparse.ArgumentParser:
    """Return nitro-cli's grammar in the form that shtab reads; it is never used to parse."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=program().about)
    parser.add_argument("--version", "-V", action="version", version="", help="Print version")
    commands = parser.add_subparsers()
    for name, about in COMMANDS.items():
        sub = commands.add_parser(name, help=about, description=about)
        for option in command(name).options:
            if option.value is None:
                sub.add_argument(f"--{option.name}", action="store_true", help=option.help)
                continue
            value: Any = sub.add_argument(f"--{option.name}", metavar=option.value, help=option.help)
            if option.name in _FILES or option.value == "metadata":
                value.complete = shtab.FILE
            elif option.name == "docker-dir":
                value.complete = shtab.DIRECTORY
    return parser
