"""What ``cloister pki show`` prints: the chain as a tree, and as JSON."""

import json
from datetime import datetime
from typing import Any

from cloister.cli.table import print_table
from cloister.trust import LEVELS, Link, Overview, common_name, fingerprint


def print_overview(overview: Overview, now: datetime, *, as_json: bool) -> None:
    """Print a host's root of trust for people or for machines."""
    if as_json:
        print(json.dumps(_members(overview), indent=2))
        return
    rows = [
        (
            "  " * depth + common_name(link.certificate),
            _day(link.certificate.not_valid_before_utc),
            _day(link.certificate.not_valid_after_utc),
            _day(link.renewal) if link.renewal is not None else "",
        )
        for depth, link in enumerate(overview.chain)
    ]
    for depth, level in enumerate(LEVELS[len(rows) :], start=len(rows)):
        possible = overview.key_here or overview.covered_until is not None
        rows.append(
            ("  " * depth + level, "", "", "issued at next use" if possible else "needs the root's key")
        )
    print_table(("authority", "from (UTC)", "until", "next one"), rows)
    trust = overview.trust
    lines = [
        f"root SHA-256   {fingerprint(trust.root_certificate)}",
        f"root key       {_place(overview)}",
        f"regional       {_series(overview)}",
        f"host           {trust.instance_id} in {trust.region}, role {trust.role_arn or 'none'}",
    ]
    for root, until in overview.retired:
        lines.append(f"retired root   {fingerprint(root)}, accepted until {_day(until)}")
    if not overview.key_here and (overview.covered_until is None or (overview.covered_until - now).days < 30):
        lines.append("WARNING        bring the root's key or a new bundle soon: 'cloister pki import'")
    print("\n" + "\n".join(lines))


def _place(overview: Overview) -> str:
    if overview.token is not None:
        return f"on a token, {overview.token}"
    return "on this host, in root.key" if overview.key_here else "not on this host"


def _series(overview: Overview) -> str:
    end = overview.covered_until
    if end is None:
        return "none in force"
    how = "issued; more when they are needed"
    if not overview.key_here:
        how = "issued ahead; the root's key or a new bundle is needed before that"
    return f"{overview.series} until {_day(end)}, {how}"


def _members(overview: Overview) -> dict[str, Any]:
    trust = overview.trust
    return {
        "Region": trust.region,
        "InstanceId": trust.instance_id,
        "RoleArn": trust.role_arn,
        "RootFingerprint": fingerprint(trust.root_certificate),
        "RootKey": "token" if overview.token else "file" if overview.key_here else "offline",
        "RootKeyUri": overview.token,
        "RegionalAuthorities": overview.series,
        "RegionalUntil": overview.covered_until.isoformat() if overview.covered_until else None,
        "Chain": [_link(link) for link in overview.chain],
        "RetiredRoots": [
            {"Fingerprint": fingerprint(root), "AcceptedUntil": until.isoformat()}
            for root, until in overview.retired
        ],
    }


def _link(link: Link) -> dict[str, Any]:
    return {
        "Level": link.level,
        "Name": common_name(link.certificate),
        "NotBefore": link.certificate.not_valid_before_utc.isoformat(),
        "NotAfter": link.certificate.not_valid_after_utc.isoformat(),
        "Renewal": link.renewal.isoformat() if link.renewal else None,
        "Fingerprint": fingerprint(link.certificate),
    }


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
