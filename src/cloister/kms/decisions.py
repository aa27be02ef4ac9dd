"""The decision log: one JSON line a call, written before the answer, and what it says to a person.

No secret is in it: neither plaintexts nor key material, signatures or secret access keys.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloister.errors import CloisterError

MAX_SHOWN = 100
MEMBERS = frozenset({"time", "requestId", "operation", "caller", "outcome"})
"""What every record has; lines without are not ours."""
ATTESTED_OPERATIONS = frozenset(
    {"Decrypt", "DeriveSharedSecret", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom"}
)


class DecisionLogError(CloisterError):
    """The decision log cannot be written or read."""


class DecisionLog:
    """An append-only file, 0600; every line is one write, so that processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o600)
            size = os.fstat(self._descriptor).st_size
            self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        except OSError as error:
            raise DecisionLogError(f"the decision log {path} cannot be opened ({error.strerror})") from error

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; raises DecisionLogError when it is not wholly written."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if self._torn:  # an earlier line was cut short: it must not swallow this one
            line = b"\n" + line
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise DecisionLogError(
                f"the decision log {self.path} cannot be written ({error.strerror})"
            ) from error
        self._torn = written != len(line)
        if self._torn:
            raise DecisionLogError(f"the decision log {self.path} took {written} of {len(line)} bytes")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_decisions(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the log's records, oldest first; lines that a crash cut short are passed over."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict) and record.keys() >= MEMBERS:
                    yield record
    except OSError as error:
        raise DecisionLogError(f"the decision log {path} cannot be read ({error.strerror})") from error


def explain(record: dict[str, Any]) -> list[str]:
    """Return a record as lines for a person: what was asked, by whom, and what decided it."""
    caller = record.get("caller") or f"access key {record.get('accessKeyId') or 'none'}"
    lines = [f"{record['time']}  {record['outcome'].upper():7}  {record['operation']}  by {caller}"]
    judged = {decision["resource"] for decision in record.get("decisions", ())}
    if record.get("key") and record["key"] not in judged:
        lines.append(f"    key {record['key']}")
    error = record.get("error")
    if error:
        told_below = record["outcome"] == "denied" and record.get("decisions")
        text = "" if told_below or not error["message"] else f": {error['message']}"
        lines.append(f"    answered {error['code']}{text}")
    lines += _attestation_lines(record)
    for decision in record.get("decisions", ()):
        verdict = "allowed" if decision["allowed"] else f"denied {decision['reason']}"
        lines.append(f"    {decision['action']} on {decision['resource']}: {verdict}")
        for statement in decision["statements"]:
            lines += _statement_lines(statement)
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]  # terminals obey the rest


def _attestation_lines(record: dict[str, Any]) -> list[str]:
    attestation = record.get("attestation")
    if attestation is None:
        takes_one = record["operation"] in ATTESTED_OPERATIONS
        return ["    no verified attestation document"] if takes_one else []
    debug = " (zeros: debug mode)" if attestation["debug"] else ""
    return [f"    attested by {attestation['moduleId']}, image {_shorten(attestation['imageDigest'])}{debug}"]


def _statement_lines(statement: dict[str, Any]) -> list[str]:
    name = f'"{statement["sid"]}"' if statement["sid"] else f"#{statement['index'] + 1}"
    verdict = "applies" if statement["matched"] else "does not apply"
    if statement["matched"] and statement.get("delegatedToIdentityPolicies"):
        verdict = "leaves it to the caller's identity policies"
    lines = [f"        {statement['policy']}, statement {name} ({statement['effect']}) {verdict}"]
    if statement["matched"]:
        return lines
    for element in statement["elements"]:
        if not element["matched"]:
            lines.append(f"            {element['element']} does not match")
            lines += _difference(element["expected"], element["actual"])
    for condition in statement["conditions"]:
        if not condition["matched"]:
            lines.append(f"            condition {condition['operator']} {condition['key']} failed")
            actual = condition["actual"]
            lines += _difference(condition["expected"], None if actual is None else ", ".join(actual))
    return lines


def _difference(expected: list[str], actual: str | None) -> list[str]:
    shown = "(absent from the request)" if actual is None else _shorten(actual)
    return [
        f"                expected {', '.join(map(_shorten, expected))}",
        f"                actual   {shown}",
    ]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
