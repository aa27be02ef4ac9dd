"""``cloister doctor``: whether this host is ready, and if not, what to do about it."""

import argparse
import json

from cloister.places import current_places
from cloister.setup import examine

HELP = """Check every precondition and say in one sentence how to mend what is missing.

Exit code 0 when enclaves can run here, 1 when something they need is missing.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print each finding as it comes and return 1 if something needed is missing."""
    findings = []
    for finding in examine(current_places()):
        findings.append(finding)
        if not args.json:
            mark = "ok  " if finding.ok else "FAIL" if finding.needed else "note"
            print(f"{mark}  {finding.check}: {finding.found}", flush=True)
            if not finding.ok:
                print(f"      fix: {finding.fix}", flush=True)
    if args.json:
        print(json.dumps([finding.to_json() for finding in findings], indent=2))
    return int(any(finding.needed and not finding.ok for finding in findings))
