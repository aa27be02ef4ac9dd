"""``cloister pki``: the life of this host's root of trust."""

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from cloister.cli.options import FILES
from cloister.cli.passphrase import (
    add_no_passphrase_option,
    add_passphrase_options,
    ask_pin,
    known_passphrase,
    new_passphrase,
)
from cloister.cli.pki_show import print_overview
from cloister.errors import CloisterError
from cloister.pki import Authority
from cloister.places import current_places
from cloister.trust import (
    LEVELS,
    MAX_SPAN,
    OVERLAP,
    Home,
    Host,
    InFile,
    Offline,
    OnToken,
    bring_in,
    delegate,
    establish,
    fingerprint,
    load_root,
    look,
    make_root,
    new_instance_id,
    open_trust,
    rotate_below,
    rotate_root,
    save_text,
    take_offline,
    trusted_roots,
)

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs and their options."""
    verbs = parser.add_subparsers(dest="pki_verb", metavar="VERB", required=True)
    init = verbs.add_parser("init", help="make the root, unless there is one", allow_abbrev=False)
    _add_home(init)
    init.add_argument(
        "--region", default=DEFAULT_REGION, help=f"the region in certificates ({DEFAULT_REGION})"
    )
    init.add_argument("--instance-id", metavar="ID", help="this host's instance id (PCR4; default: random)")
    init.add_argument("--role-arn", metavar="ARN", help="the role this host has (PCR3; default: none)")
    show = verbs.add_parser("show", help="the chain and its keys", allow_abbrev=False)
    show.add_argument("--json", action="store_true", help="for machines")
    export = verbs.add_parser("export-root", help="print the root's certificate, in PEM", allow_abbrev=False)
    _file(export, "file", nargs="?", help="write it here (default: standard output)")
    export.add_argument("--all", action="store_true", help="retired roots too, while they are accepted")
    export.add_argument("--fingerprint", action="store_true", help="print the SHA-256 instead")
    rotate = verbs.add_parser("rotate", help="replace the root, or an authority below it", allow_abbrev=False)
    rotate.add_argument("--level", choices=LEVELS, default="root", help="what is replaced (root)")
    _add_home(rotate)
    _add_root_key(rotate)
    _add_overlap(rotate)
    away = verbs.add_parser("take-offline", help="carry the root's key away", allow_abbrev=False)
    _file(away, "file", nargs="?", help="where the key goes; not for a key on a token")
    _add_span(away)
    add_passphrase_options(away, "the key's file")
    add_no_passphrase_option(away)
    load = verbs.add_parser(
        "import", help="take a root's key back, or issue under another host's root", allow_abbrev=False
    )
    _file(load, "file", help="what take-offline or delegate wrote")
    load.add_argument("--replace", action="store_true", help="give up the root that this host has")
    load.add_argument("--region", help=f"for a root's key, on a host without identity ({DEFAULT_REGION})")
    load.add_argument(
        "--instance-id", metavar="ID", help="on a host without identity (PCR4; default: random)"
    )
    _add_overlap(load)
    add_passphrase_options(load, "the file")
    share = verbs.add_parser(
        "delegate", help="let another host issue under this root, for a while", allow_abbrev=False
    )
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
    parser.add_argument("--label", default="", help="a word before the root's name, to tell roots apart")
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
    action = parser.add_argument(name, type=Path, metavar=metavar, **options)  # type: ignore[arg-type]
    action.complete = FILES  # type: ignore[attr-defined]


def run(args: argparse.Namespace) -> int:
    """Carry out one sub-verb."""
    verbs = {
        "init": _init,
        "show": _show,
        "export-root": _export,
        "rotate": _rotate,
        "take-offline": _take_offline,
        "import": _import,
        "delegate": _delegate,
    }
    verbs[args.pki_verb](args, current_places().pki, datetime.now(UTC))
    return 0


def _init(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    host = Host(args.region, args.instance_id or new_instance_id(), args.role_arn)
    host.check()
    if (directory / "root.pem").exists():
        _check_home(args, directory, now)
        home: Home = InFile()  # not made: the root stays
    else:
        home = _home(args)
    made = establish(
        directory,
        host,
        lambda: make_root(home, region=args.region, now=now, span=args.span, label=args.label),
        now,
    )
    _check_home(args, directory, now)  # what an interrupted init had made is gone on with
    trust = open_trust(directory)
    word = "made" if made else "there already; the root stays"
    print(f"{word}: {trust.instance_id} in {trust.region}, root {fingerprint(trust.root_certificate)}")


def _check_home(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    """Refuse to go on with a root whose key does not live where it was asked to be."""
    have = look(directory, now)
    where = have.token or ("file" if have.key_here else "offline")
    wish = "offline" if args.offline is not None else args.key
    if wish not in (None, where):
        option = f"--offline {args.offline}" if wish == "offline" else f"--key '{wish}'"
        raise CloisterError(
            f"this host has a root already, {fingerprint(have.trust.root_certificate)[:16]}..., "
            f"and its key is {where}: 'cloister pki rotate {option}' replaces it, "
            "'cloister pki take-offline' carries its key away"
        )


def _home(args: argparse.Namespace) -> Home:
    if args.offline is not None:
        what = f"'{args.offline}'"
        if args.offline.exists():
            return Offline(args.offline, known_passphrase(args, _content(args.offline), what))
        return Offline(args.offline, new_passphrase(args, what))
    if args.key is None or args.key == "file":
        return InFile()
    if not args.key.startswith("pkcs11:"):
        raise CloisterError(f"the key's place '{args.key[:80]}' is unknown: expected file or a pkcs11: URI")
    return OnToken(args.key, ask_pin)


def _show(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    print_overview(look(directory, now), now, as_json=args.json)


def _export(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    roots = trusted_roots(directory, now) if args.all else (open_trust(directory).root_certificate,)
    if args.fingerprint:
        text = "".join(f"{fingerprint(root)}\n" for root in roots)
    else:
        text = "".join(root.public_bytes(Encoding.PEM).decode() for root in roots)
    if args.file is None:
        sys.stdout.write(text)
        return
    try:
        args.file.write_text(text)
    except OSError as error:
        raise CloisterError(f"'{args.file}' cannot be written: {error.strerror}") from error


def _rotate(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    have = look(directory, now)
    if args.level != "root":
        if args.key or args.offline or args.label or args.distrust_old:
            raise CloisterError(f"--key, --offline, --label, --distrust-old are for a root, not {args.level}")
        root = _root_key(args)
        span = args.span or (timedelta() if have.key_here and have.token is None else None)
        rotate_below(directory, args.level, now, root=root, span=span, pin=ask_pin)
        print(f"the {args.level} authority is a new one; running enclaves get theirs within 3 hours")
        return
    if not have.key_here and args.key is None and args.offline is None:
        raise CloisterError(
            "this host's root is kept elsewhere, perhaps for other hosts too: say where the new one's key "
            "is to live with --key or --offline, or bring a new bundle with 'cloister pki import --replace'"
        )
    if have.token is not None and args.key in (None, have.token) and args.offline is None:
        raise CloisterError(
            "the root's key is on a token: name another object there with --key, or --key file"
        )
    home = _home(args)
    rotate_root(
        directory,
        lambda: make_root(home, region=have.trust.region, now=now, span=args.span, label=args.label),
        now,
        overlap=timedelta() if args.distrust_old else OVERLAP,
    )
    _tell_new_root(args, directory)


def _take_offline(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    have = look(directory, now)
    passphrase = None
    if args.file is not None and have.key_here and have.token is None:
        what = f"'{args.file}'"
        there = args.file.exists()
        passphrase = (
            known_passphrase(args, _content(args.file), what) if there else new_passphrase(args, what)
        )
    until = take_offline(directory, args.file, now, passphrase=passphrase, span=args.span, pin=ask_pin)
    where = f"in {args.file}, read back and tried; this host has it no more" if args.file else "on its token"
    print(
        f"the root's key is {where}\nauthorities are issued until {until:%Y-%m-%d}: bring the key before that"
    )


def _import(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    content = _content(args.file)
    host = Host(args.region or DEFAULT_REGION, args.instance_id or new_instance_id())
    new = bring_in(
        directory,
        content,
        now,
        passphrase=known_passphrase(args, content, f"'{args.file}'"),
        replace=args.replace,
        overlap=timedelta() if args.distrust_old else OVERLAP,
        host=host,
    )
    trust = open_trust(directory)
    what = "its key is on this host" if new.entry else f"{len(new.series)} regional authorities"
    print(f"{trust.instance_id} in {trust.region} issues under {fingerprint(new.certificate)}: {what}")


def _delegate(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    if args.out.exists():
        raise CloisterError(f"'{args.out}' is there already: name a file that is not")
    region = args.region or open_trust(directory).region
    root = _root_key(args)
    passphrase = new_passphrase(args, f"'{args.out}'")
    bundle = delegate(directory, region, now, root=root, span=args.span, passphrase=passphrase, pin=ask_pin)
    save_text(args.out, bundle)
    print(f"{args.out}: issue under this root in {region}; 'cloister pki import' there, then remove the file")


def _root_key(args: argparse.Namespace) -> Authority | None:
    if args.root_key is None:
        return None
    content = _content(args.root_key)
    return load_root(args.root_key, known_passphrase(args, content, f"'{args.root_key}'"))


def _tell_new_root(args: argparse.Namespace, directory: Path) -> None:
    print(f"the root is a new one, {fingerprint(open_trust(directory).root_certificate)}")
    print("give it to verifiers elsewhere: 'cloister pki export-root --all'")
    if args.distrust_old:
        print("the old one is refused from now on; running enclaves leave it within 3 hours")
    else:
        print(f"the old one is accepted for {OVERLAP.days} day; running enclaves leave it within 3 hours")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise CloisterError(f"'{path}' cannot be read: {error.strerror}") from error


def _span(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,4})d", text, re.ASCII)
    if found is None or not timedelta() < timedelta(days=int(found[1])) <= MAX_SPAN:
        raise argparse.ArgumentTypeError(f"'{text[:50]}' is not 1d to {MAX_SPAN.days}d")
    return timedelta(days=int(found[1]))
