"""``cloister kms``: the key service."""

import argparse
import json
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509

from cloister.errors import CloisterError
from cloister.kms import (
    DecisionLog,
    Service,
    Trust,
    explain,
    listen_tcp,
    listen_unix,
    open_store,
    read_decisions,
    serve,
)
from cloister.places import Places, current_places
from cloister.trust import open_trust, trusted_roots

HELP = """The key service: AWS KMS's API, with attestation enforced.

  cloister kms serve                         serve on 127.0.0.1 port 8000
  cloister kms decisions --denied --last 1   why was that refused?
"""
DECISION_LOG_NAME = "kms-decisions.jsonl"
DEFAULT_PORT = 8000


class RootFileError(CloisterError):
    """A file of root certificates that cannot be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs and their options."""
    verbs = parser.add_subparsers(dest="kms_verb", metavar="VERB", required=True)
    server = verbs.add_parser("serve", help="serve the API until SIGTERM", allow_abbrev=False)
    server.add_argument("--host", default="127.0.0.1", help="loopback IP address (127.0.0.1)")
    server.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="TCP port; 0 takes a free one (8000)"
    )
    server.add_argument("--uds", type=Path, metavar="PATH", help="listen on a Unix socket instead")
    server.add_argument(
        "--root",
        type=Path,
        action="append",
        metavar="PEM",
        help="trust attestation documents under these roots; may be given again "
        "(this host's own, also when it is replaced meanwhile)",
    )
    server.add_argument(
        "--max-age", type=_positive, default=300, metavar="SECONDS", help="oldest attestation document (300)"
    )
    server.add_argument(
        "--ready-fd",
        type=_descriptor,
        metavar="N",
        help="write the endpoint and a newline to this descriptor when ready",
    )
    server.add_argument(
        "--insecure-expose", action="store_true", help="allow plain HTTP on an address others can reach"
    )
    decisions = verbs.add_parser("decisions", help="print the decision log for people", allow_abbrev=False)
    decisions.add_argument("--last", type=_positive, metavar="N", help="only the last N")
    decisions.add_argument("--denied", action="store_true", help="only denied calls")
    decisions.add_argument("--json", action="store_true", help="print the records as they are")


def run(args: argparse.Namespace) -> int:
    """Carry out one sub-verb."""
    places = current_places()
    return _serve(args, places) if args.kms_verb == "serve" else _decisions(args, places)


def decision_log_path(places: Places) -> Path:
    """Return where the decision log of this user's service lies."""
    return places.logs / DECISION_LOG_NAME


def _serve(args: argparse.Namespace, places: Places) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    service = Service(
        open_store(places.kms),
        trust=Trust(roots=_roots(args.root, places), max_age=timedelta(seconds=args.max_age)),
        log=DecisionLog(decision_log_path(places)),
    )
    if args.uds is not None:
        listener = listen_unix(args.uds)
        endpoint = f"unix:{args.uds}"
    else:
        listener = listen_tcp(args.host, args.port, allow_exposed=args.insecure_expose)
        endpoint = _endpoint(listener)

    def announce() -> None:
        print(f"cloister kms: listening on {endpoint}, region {service.store.region}", flush=True)
        if args.ready_fd is not None:
            os.write(args.ready_fd, f"{endpoint}\n".encode())
            os.close(args.ready_fd)

    try:
        serve(service, listener, announce)
    finally:
        if args.uds is not None:
            args.uds.unlink(missing_ok=True)
    return 0


def _endpoint(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _roots(paths: list[Path] | None, places: Places) -> Callable[[datetime], Sequence[x509.Certificate]]:
    """Return who says which roots are trusted: the files, read once, or this host, which may get another."""
    if paths:
        named = [root for path in paths for root in _read_roots(path)]
        return lambda _: named
    open_trust(places.pki)
    return partial(trusted_roots, places.pki)


def _read_roots(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise RootFileError(f"the root certificate {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise RootFileError(f"{path} holds no PEM certificate") from error


def _decisions(args: argparse.Namespace, places: Places) -> int:
    records = (
        record
        for record in read_decisions(decision_log_path(places))
        if not args.denied or record.get("outcome") == "denied"
    )
    chosen = deque(records, maxlen=args.last) if args.last is not None else records
    for record in chosen:
        print(json.dumps(record) if args.json else "\n".join(explain(record)))
    return 0


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{number} is not above zero")
    return number


def _descriptor(text: str) -> int:
    number = int(text)
    try:
        os.fstat(number)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{number} is not an open descriptor") from error
    return number
