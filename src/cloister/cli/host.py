"""``cloister host``: who this host is, as its enclaves' documents say it."""

import argparse
import json
from collections.abc import Callable

from cloister.cli.table import print_table
from cloister.errors import CloisterError
from cloister.pki import check_instance_id, check_region
from cloister.places import current_places
from cloister.trust import DOCUMENT_MAPS, Trust, check_role_arn, open_trust, set_host

HELP = """Who this host is: what its enclaves' registers, certificates and documents are made of.

  cloister host show
  cloister host set --role-arn arn:aws:iam::123456789012:role/web    PCR3 of enclaves to come
  cloister host set --no-role    PCR3 is zero again
  cloister host set --document-map definite    documents as AWS wrote them until June 2025

Enclaves that run keep the role, instance and encoding they started with.
"""
_SHOW = """Print this host's identity: what PCR3, PCR4, certificates and documents of its enclaves say.

  cloister host show
  cloister host show --json
"""
_SET = """Change a part of this host's identity; the others stay, and so do those of enclaves that run.

  cloister host set --role-arn arn:aws:iam::123456789012:role/web
  cloister host set --instance-id i-0123456789abcdef0 --region eu-west-1
  cloister host set --no-role
"""
_EXIT_STATUSES = "Exit status: 0 done; 1 refused, or it could not be done; 2 wrong usage; 130 interrupted."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs and their options."""
    verbs = parser.add_subparsers(dest="host_verb", metavar="VERB", required=True)
    show = verbs.add_parser(
        "show",
        help="print this host's identity",
        description=_SHOW,
        epilog=_EXIT_STATUSES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("--json", action="store_true", help="for machines")
    change = verbs.add_parser(
        "set",
        help="change the identity of enclaves that start from now on",
        description=_SET,
        epilog=_EXIT_STATUSES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    change.add_argument(
        "--instance-id",
        type=_checked(check_instance_id),
        metavar="ID",
        help="the instance id (PCR4), such as i-0123456789abcdef0",
    )
    role = change.add_mutually_exclusive_group()
    role.add_argument(
        "--role-arn", type=_checked(check_role_arn), metavar="ARN", help="the role this host has (PCR3)"
    )
    role.add_argument("--no-role", action="store_true", help="this host has no role")
    change.add_argument("--region", type=_checked(check_region), help="the region in certificates")
    change.add_argument(
        "--document-map",
        choices=DOCUMENT_MAPS,
        help="how documents are encoded: as AWS does since June 2025, or as before",
    )
    change.set_defaults(wrong=change.error)
    change.add_argument("--json", action="store_true", help="print the new identity for machines")


def run(args: argparse.Namespace) -> int:
    """Carry out one sub-verb."""
    directory = current_places().pki
    if args.host_verb == "show":
        _print(open_trust(directory), as_json=args.json)
        return 0
    wishes = (args.instance_id, args.role_arn, args.region, args.document_map)
    if not any(wish is not None for wish in wishes) and not args.no_role:
        args.wrong("nothing to set: name --role-arn, --no-role, --instance-id, --region or --document-map")
    trust = set_host(
        directory,
        region=args.region,
        instance_id=args.instance_id,
        role_arn=args.role_arn,
        no_role=args.no_role,
        document_map=args.document_map,
    )
    _print(trust, as_json=args.json)
    if not args.json:
        print("\nEnclaves that start from now on have this identity; running ones keep theirs.")
    return 0


def _checked(check: Callable[[str], None]) -> Callable[[str], str]:
    """Return a reader, for argparse, of what a check does not refuse."""

    def read(text: str) -> str:
        try:
            check(text)
        except CloisterError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return read


def _print(trust: Trust, *, as_json: bool) -> None:
    if as_json:
        members = {
            "Region": trust.region,
            "InstanceId": trust.instance_id,
            "RoleArn": trust.role_arn,
            "DocumentMap": trust.document_map,
        }
        print(json.dumps(members, indent=2))
        return
    rows = [
        ("instance id", trust.instance_id, "PCR4"),
        ("role", trust.role_arn or "none", "PCR3"),
        ("region", trust.region, "certificates"),
        ("document map", trust.document_map, "how documents are encoded"),
    ]
    print_table(("identity", "value", "seen in"), rows)
