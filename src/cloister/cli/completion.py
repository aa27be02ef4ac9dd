"""``cloister completion``: a completion script for the shell, made from the parser itself."""

import argparse

import shtab

from cloister.cli.main import build_parser

HELP = """Print a completion script.

  bash:  cloister completion bash > /etc/bash_completion.d/cloister
  zsh:   cloister completion zsh > "${fpath[1]}/_cloister"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell to complete in")


def run(args: argparse.Namespace) -> int:
    """Print the script for one shell."""
    print(shtab.complete(build_parser("*"), shell=args.shell))
    return 0
