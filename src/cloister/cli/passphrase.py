"""Secrets that a command needs: from a file, the environment or whoever sits at the terminal, never argv."""

import argparse
import getpass
import os
import sys
from functools import cache
from typing import Final

from cloister.cli.options import FILES, path_argument
from cloister.errors import CloisterError
from cloister.trust import PIN_VARIABLE

VARIABLE: Final = "CLOISTER_PASSPHRASE"
_MAX: Final = 4096
_LEAST: Final = 8


def add_passphrase_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare where the passphrase of ``what`` comes from."""
    file = parser.add_argument(
        "--passphrase-file",
        type=path_argument,
        metavar="FILE",
        help=f"read the passphrase of {what} from here (default: ${VARIABLE}, else asked for)",
    )
    file.complete = FILES  # type: ignore[attr-defined]


def add_no_passphrase_option(parser: argparse.ArgumentParser) -> None:
    """Declare that a file may be written without one."""
    parser.add_argument(
        "--no-passphrase", action="store_true", help="write the key as it is: who reads the file has the key"
    )


def new_passphrase(args: argparse.Namespace, what: str) -> bytes | None:
    """Return the passphrase of a file to be written, None if it is to have none; raise CloisterError."""
    if args.no_passphrase:
        if args.passphrase_file is not None and getattr(args, "root_key", None) is None:
            raise CloisterError("--no-passphrase and --passphrase-file exclude each other")
        return None
    given = _given(args)
    if given is None:
        given = _ask(f"Passphrase for {what}: ", f"{what} is encrypted", "or say --no-passphrase")
        if given != _ask("Once more: ", "", ""):
            raise CloisterError("the two passphrases differ")
    if not given:
        raise CloisterError(f"the passphrase for {what} is empty: give one, or say --no-passphrase")
    if len(given) < _LEAST:
        raise CloisterError(f"the passphrase for {what} is shorter than {_LEAST} bytes: give a longer one")
    return given


def known_passphrase(args: argparse.Namespace, content: bytes, what: str) -> bytes | None:
    """Return the passphrase of a file that was read, None if it needs none; raise CloisterError."""
    if b"-----BEGIN ENCRYPTED" not in content:
        return None
    return _given(args) or _ask(f"Passphrase of {what}: ", f"{what} is encrypted", "")


@cache
def ask_pin(token: str) -> str:
    """Ask for a token's PIN, once; raise CloisterError."""
    hint = f"or name a file as the URI's pin-source, or set {PIN_VARIABLE}"
    return _ask(f"PIN of the token '{token}': ", f"the token '{token}' needs its PIN", hint).decode()


def _given(args: argparse.Namespace) -> bytes | None:
    if args.passphrase_file is not None:
        try:
            with args.passphrase_file.open("rb") as file:
                return bytes(file.read(_MAX).rstrip(b"\r\n"))
        except OSError as error:
            raise CloisterError(
                f"the passphrase's file '{args.passphrase_file}' cannot be read: {error.strerror}"
            ) from error
    value = os.environ.get(VARIABLE)
    return value.encode() if value is not None else None


def _ask(prompt: str, need: str, hint: str) -> bytes:
    if not sys.stdin.isatty():
        ways = hint or f"set {VARIABLE}, or name --passphrase-file"
        if "--no-passphrase" in hint:
            ways = f"set {VARIABLE}, name --passphrase-file, {hint}"
        raise CloisterError(f"{need}, and there is no terminal to ask at: {ways.removeprefix('or ')}")
    try:
        return getpass.getpass(prompt).encode()
    except EOFError:
        raise CloisterError(f"{need}, and nothing was typed") from None
