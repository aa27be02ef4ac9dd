"""``cloister pki``: the life of this host's root of trust."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.cli.passphrase import (
    ask_pin,
    known_passphrase,
    new_passphrase,
)
from cloister.cli.pki_grammar import DEFAULT_REGION, HELP, KEY_NAME, add_arguments
from cloister.cli.pki_show import print_overview
from cloister.errors import CloisterError
from cloister.pki import Authority
from cloister.places import current_places
from cloister.trust import (
    OVERLAP,
    Home,
    Host,
    InFile,
    Offline,
    OnToken,
    TrustDamagedError,
    TrustMissingError,
    bring_in,
    check_elsewhere,
    common_name,
    delegate,
    establish,
    fingerprint,
    load_root,
    look,
    make_root,
    new_instance_id,
    open_trust,
    read_host,
    rotate_below,
    rotate_root,
    save_text,
    take_offline,
    trusted_roots,
)

__all__ = ["HELP", "add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Carry out one sub-verb."""
    for name in ("offline", "file", "root_key"):  # a medium's directory stands for a file in it
        path = getattr(args, name, None)
        if path is not None and path.is_dir() and args.pki_verb != "export-root":
            setattr(args, name, path / KEY_NAME)
    directory = current_places().pki
    written = (getattr(args, "offline", None), getattr(args, "out", None), getattr(args, "file", None))
    for path in written if args.pki_verb != "import" else ():
        if path is not None:
            check_elsewhere(directory.parent, path)
    verbs = {
        "init": _init,
        "show": _show,
        "export-root": _export,
        "rotate": _rotate,
        "take-offline": _take_offline,
        "import": _import,
        "delegate": _delegate,
    }
    verbs[args.pki_verb](args, directory, datetime.now(UTC))
    return 0


def _init(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    host = Host(args.region or DEFAULT_REGION, args.instance_id or new_instance_id(), args.role_arn)
    host.check()
    damage = _damage(directory)
    if (directory / "root.pem").exists():
        if args.instance_id is None or args.region is None:  # else a lost identity is given again
            _check_same(args, directory)
        _check_home(args, directory, now)
        home: Home = InFile()  # not made: the root stays
    else:
        home = _home(args)
    made = establish(
        directory,
        host,
        lambda: make_root(home, region=host.region, now=now, span=args.span, label=args.label or ""),
        now,
    )
    _check_home(args, directory, now)  # what an interrupted init had made is gone on with
    _check_same(args, directory)
    trust = open_trust(directory)
    word = f"mended, for {damage}" if damage else "made" if made else "there already; the root stays"
    print(f"{word}: {trust.instance_id} in {trust.region}, root {fingerprint(trust.root_certificate)}")


def _damage(directory: Path) -> str | None:
    """Return what is damaged or missing of a root of trust that is here."""
    try:
        open_trust(directory)
    except TrustDamagedError as error:
        return str(error).partition(": ")[0]
    except TrustMissingError:
        return None
    return None


def _check_same(args: argparse.Namespace, directory: Path) -> None:
    """Refuse what is asked of a root and an identity that are there, and that they are not."""
    try:
        have = open_trust(directory)
    except TrustMissingError:
        return
    except TrustDamagedError:
        if str(directory / "root.pem") in str(_damage(directory)):  # made again from root.key
            return
        raise
    for name, wish, value in (
        ("region", args.region, have.region),
        ("instance id", args.instance_id, have.instance_id),
        ("role", args.role_arn, have.role_arn or "none"),
    ):
        if wish is not None and wish != value:
            raise CloisterError(f"this host's {name} is {value}, not {wish}: 'cloister host set' changes it")
    name = common_name(have.root_certificate)
    if args.label and not name.startswith(f"{args.label}."):
        raise CloisterError(f"this host's root is '{name}': 'cloister pki rotate --label' makes another one")


def _check_home(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    """Refuse to go on with a root whose key does not live where it was asked to be."""
    if args.offline is None and args.key is None:
        return
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
        if args.file.exists() and args.file.read_bytes() != text.encode():
            raise CloisterError(f"'{args.file}' is there already, with other content: name another file")
        args.file.write_text(text)
    except OSError as error:
        raise CloisterError(f"'{args.file}' cannot be written: {error.strerror}") from error


def _rotate(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    have = look(directory, now)
    if args.level != "root":
        _refuse_options(args)
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
    before = trusted_roots(directory, now)
    replaced = rotate_root(
        directory,
        lambda: make_root(home, region=have.trust.region, now=now, span=args.span, label=args.label or ""),
        now,
        overlap=timedelta() if args.distrust_old else OVERLAP,
    )
    if not replaced:
        raise CloisterError(
            f"'{args.offline}' holds the root that this host has already, "
            f"{fingerprint(have.trust.root_certificate)[:16]}...: nothing is replaced; "
            "for a new root, name a file that is not there yet"
            + ("; roots retired before are refused from now on" if args.distrust_old else "")
        )
    print(f"the root is a new one, {fingerprint(open_trust(directory).root_certificate)}")
    on_token = args.key not in (None, "file")
    place = f"in {args.offline or directory / 'root.key'}"
    print(f"its key is {'on its token' if on_token else place}")
    print("give it to verifiers elsewhere: 'cloister pki export-root --all'")
    _tell_old_roots(directory, before)


def _refuse_options(args: argparse.Namespace) -> None:
    """End with usage where options of rotate say nothing at a level below the root."""
    if args.key or args.offline or args.label or args.distrust_old or args.no_passphrase:
        args.wrong(
            "--key, --offline, --label, --distrust-old, --no-passphrase are for a root, "
            f"not for --level {args.level}"
        )
    if args.level != "regional" and (args.span or args.root_key or args.passphrase_file):
        args.wrong(
            f"--for, --root-key, --passphrase-file are for regional authorities, not for --level {args.level}"
        )


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
    _refuse_other_identity(args, directory)
    try:
        before = trusted_roots(directory, now)
    except (TrustMissingError, TrustDamagedError):
        before = ()
    new = bring_in(
        directory,
        content,
        now,
        passphrase=known_passphrase(args, content, f"'{args.file}'"),
        replace=args.replace,
        overlap=timedelta() if args.distrust_old else OVERLAP,
        host=host,
        region=args.region,
    )
    trust = open_trust(directory)
    what = "its key is on this host" if new.entry else f"{len(new.series)} regional authorities"
    print(f"{trust.instance_id} in {trust.region} issues under {fingerprint(new.certificate)}: {what}")
    if before:
        _tell_old_roots(directory, before)


def _refuse_other_identity(args: argparse.Namespace, directory: Path) -> None:
    """Refuse an identity that this host has not, where it has one: import changes none."""
    have = read_host(directory)
    if have is None:
        return
    for name, wish, value in (
        ("instance id", args.instance_id, have.instance_id),
        ("region", args.region, have.region),
    ):
        if wish not in (None, value):
            raise CloisterError(f"this host's {name} is {value}, not {wish}: 'cloister host set' changes it")


def _delegate(args: argparse.Namespace, directory: Path, now: datetime) -> None:
    if args.out.exists():
        raise CloisterError(f"'{args.out}' is there already: name a file that is not")
    region = args.region or open_trust(directory).region
    root = _root_key(args)
    passphrase = new_passphrase(args, f"'{args.out}'")
    if root is not None:
        print(f"the root is {fingerprint(root.certificate)}")
    bundle = delegate(directory, region, now, root=root, span=args.span, passphrase=passphrase, pin=ask_pin)
    save_text(args.out, bundle)
    print(f"{args.out}: issue under this root in {region}; 'cloister pki import' there, then remove the file")


def _root_key(args: argparse.Namespace) -> Authority | None:
    if args.root_key is None:
        return None
    content = _content(args.root_key)
    return load_root(args.root_key, known_passphrase(args, content, f"'{args.root_key}'"))


def _tell_old_roots(directory: Path, before: tuple[x509.Certificate, ...]) -> None:
    """Say of every root that was accepted before, and is not this host's now, what becomes of it."""
    current, *retired = trusted_roots(directory, datetime.now(UTC))
    for root in (*before, *(one for one in retired if one not in before)):
        if root == current:
            continue
        if root in retired:
            print(f"still accepted, for {OVERLAP.days} day at most: {fingerprint(root)}")
        else:
            print(f"refused from now on: {fingerprint(root)}")
    if before[0] != current:
        print("running enclaves get certificates of the new root within 3 hours")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise CloisterError(f"'{path}' cannot be read: {error.strerror}") from error
