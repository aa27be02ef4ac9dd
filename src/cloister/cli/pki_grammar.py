"""The words of ``cloister pki``: sub-verbs, options, help."""

import argparse
import re
from datetime import timedelta

from cloister.cli.options import FILES, name_argument, path_argument
from cloister.cli.passphrase import add_no_passphrase_option, add_passphrase_options
from cloister.cli.pki_help import DESCRIPTIONS, EXIT_STATUSES
from cloister.trust import LEVELS, MAX_SPAN, OVERLAP

HELP = """The root of trust that stands behind every attestation document of this host.

  cloister pki init                          make one (cloister setup does, if there is none)
  cloister pki show                          the chain, where the root's key lives, when what is renewed
  cloister pki export-root root.pem          what verifiers need; nothing in it is secret
  cloister pki take-offline /media/usb/root.key
                                             carry the root's key away; authorities for a year come first
  cloister pki delegate --region eu-west-1 --out b.bundle
  cloister pki import b.bundle               ... on another host: both are under one root
  cloister pki rotate                        a new root; the old one's documents are accepted for a day
  cloister pki rotate --level regional       a new authority below the same root

A root's key can be on a token from the start: init --key 'pkcs11:token=T;object=O?module-path=/path/lib.so'.
The PIN comes from the URI's pin-source=file:/path, from $CLOISTER_PKCS11_PIN, or is asked for.
"""
DEFAULT_REGION = "us-east-1"
KEY_NAME = "cloister-root.key"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs and their options."""
    verbs = parser.add_subparsers(dest="pki_verb", metavar="VERB", required=True)
    init = _add_verb(verbs, "init", "make the root, unless there is one")
    _add_home(init)
    init.add_argument("--region", help=f"the region in certificates (a new root's: {DEFAULT_REGION})")
    init.add_argument("--instance-id", metavar="ID", help="this host's instance id (PCR4; default: random)")
    init.add_argument("--role-arn", metavar="ARN", help="the role this host has (PCR3; default: none)")
    show = _add_verb(verbs, "show", "the chain and its keys")
    show.add_argument("--json", action="store_true", help="for machines")
    export = _add_verb(verbs, "export-root", "print the root's certificate, in PEM")
    _file(export, "file", nargs="?", help="write it here (default: standard output)")
    export.add_argument("--all", action="store_true", help="retired roots too, while they are accepted")
    export.add_argument("--fingerprint", action="store_true", help="print the SHA-256 instead")
    rotate = _add_verb(verbs, "rotate", "replace the root, or an authority below it")
    rotate.set_defaults(wrong=rotate.error)
    rotate.add_argument("--level", choices=LEVELS, default="root", help="what is replaced (root)")
    _add_home(rotate)
    _add_root_key(rotate)
    _add_overlap(rotate)
    _add_carrying(verbs)


def _add_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str
) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=summary,
        description=DESCRIPTIONS[name],
        epilog=EXIT_STATUSES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_carrying(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs by which keys leave this host and come to it."""
    away = _add_verb(verbs, "take-offline", "carry the root's key away")
    _file(
        away,
        "file",
        nargs="?",
        help=f"where the key goes, or a directory for {KEY_NAME}; not for a key on a token",
    )
    _add_span(away)
    add_passphrase_options(away, "the key's file")
    add_no_passphrase_option(away)
    load = _add_verb(verbs, "import", "take a root's key back, or issue under another host's root")
    _file(load, "file", help="what take-offline or delegate wrote")
    load.add_argument("--replace", action="store_true", help="give up the root that this host has")
    load.add_argument("--region", help=f"for a root's key, on a host without identity ({DEFAULT_REGION})")
    load.add_argument(
        "--instance-id", metavar="ID", help="on a host without identity (PCR4; default: random)"
    )
    _add_overlap(load)
    add_passphrase_options(load, "the file")
    share = _add_verb(verbs, "delegate", "let another host issue under this root, for a while")
    _file(share, "--out", required=True, help="the bundle to write, for 'cloister pki import' there")
    share.add_argument("--region", help="the other host's region (default: this one's)")
    _add_span(share)
    _add_root_key(share)
    add_passphrase_options(share, "the bundle, and of --root-key")
    add_no_passphrase_option(share)


def _add_home(parser: argparse.ArgumentParser) -> None:
    home = parser.add_mutually_exclusive_group()
    home.add_argument(
        "--key", metavar="file|pkcs11:URI", help="where the root's key lives (file: on this host)"
    )
    _file(home, "--offline", help="write the root's key there, or use the one there; keep it nowhere else")
    parser.add_argument(
        "--label", type=name_argument, help="a word before the root's name, to tell roots apart"
    )
    _add_span(parser)
    add_passphrase_options(parser, "the offline key")
    add_no_passphrase_option(parser)


def _add_root_key(parser: argparse.ArgumentParser) -> None:
    _file(parser, "--root-key", help="the root's key where it is offline; it is used and not kept")


def _add_span(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--for",
        dest="span",
        type=_span,
        metavar="DAYS",
        help="issue regional authorities for this long, such as 365d (365d where the key is not on the host)",
    )


def _add_overlap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--distrust-old",
        action="store_true",
        help=f"refuse the old root's documents at once, not after {OVERLAP.days} day: others have its key",
    )


def _file(parser: argparse._ActionsContainer, name: str, **options: object) -> None:
    metavar = "FILE" if name.startswith("-") else "file"
    action = parser.add_argument(name, type=path_argument, metavar=metavar, **options)  # type: ignore[arg-type]
    action.complete = FILES  # type: ignore[attr-defined]


def _span(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,4})d", text, re.ASCII)
    if found is None or not timedelta() < timedelta(days=int(found[1])) <= MAX_SPAN:
        raise argparse.ArgumentTypeError(f"'{text[:50]}' is not 1d to {MAX_SPAN.days}d")
    return timedelta(days=int(found[1]))
