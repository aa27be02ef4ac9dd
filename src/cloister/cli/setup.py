"""``cloister setup``: prepare this host, step by step; what is done already is skipped."""

import argparse
import sys
import time

from cloister.cli.progress import show_progress
from cloister.errors import CloisterError
from cloister.kit import ARCHITECTURES
from cloister.places import current_places
from cloister.setup import Wishes, setup_steps

HELP = """Prepare this host: system packages, VMM jail, guest kit, root of trust, KMS account, examples.

Only the first step may need root, and only if packages are missing. Run it again at any time: what is
done is skipped, what was interrupted goes on. Nothing outside the user's own cache and state is touched.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--offline", action="store_true", help="use only what is in the cache")
    parser.add_argument(
        "--no-packages", action="store_true", help="never install packages of the distribution"
    )
    parser.add_argument(
        "--update-lock",
        action="store_true",
        help="move the examples' lock file to the archive's current versions",
    )
    parser.add_argument(
        "--instance-id", default="", metavar="ID", help="this host's instance id (PCR4; default: random)"
    )
    parser.add_argument(
        "--region", default="us-east-1", help="the region in certificates (default: us-east-1)"
    )
    parser.add_argument(
        "--arch",
        choices=[*ARCHITECTURES, "all"],
        help="also prepare enclaves of this architecture (default: this host's alone)",
    )
    parser.add_argument("--role-arn", metavar="ARN", help="the role this host has (PCR3; default: none)")


def run(args: argparse.Namespace) -> int:
    """Run every step; the first that fails ends it, and says what to do."""
    wishes = Wishes(
        offline=args.offline,
        packages=not args.no_packages,
        update_lock=args.update_lock,
        instance_id=args.instance_id,
        region=args.region,
        role_arn=args.role_arn,
        architectures={None: (), "all": ARCHITECTURES}.get(args.arch, (args.arch,)),
    )
    steps = setup_steps(current_places(), wishes)
    begun = time.monotonic()
    for number, step in enumerate(steps, 1):
        started = time.monotonic()
        label = f"[{number}/{len(steps)}] {step.title}"
        try:
            with show_progress(label) as report:
                outcome = step.run(report)
        except CloisterError:
            print(f"{label}: failed", file=sys.stderr, flush=True)
            raise
        print(f"{label}: {outcome} ({time.monotonic() - started:.1f} s)", file=sys.stderr, flush=True)
    print(f"This host is ready ({time.monotonic() - begun:.1f} s). Next: cloister demo", file=sys.stderr)
    return 0
