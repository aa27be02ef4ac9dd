"""``cloister ps``: the enclaves there are, and with ``-a`` those there were."""

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cloister.cli.table import print_table
from cloister.control import Request, ask
from cloister.places import Places, current_places
from cloister.running import Enclave, document_registers, exit_code, explain, list_enclaves

HELP = """List enclaves.

  cloister ps            those that run
  cloister ps -a         also those that have ended (the last hundred), and how
  cloister ps --json     everything that is known of them, for programs

DOCUMENT PCR0 is what the enclave's attestation documents say: zeros in debug mode, whatever the image
measures. ('nitro-cli describe-enclaves' prints the image's registers there, as AWS's does.)"""

HEADER = ("NAME", "ID", "CID", "CPUS", "MEMORY", "MODE", "STATE", "AGE", "DOCUMENT PCR0")
SHORT = 12
"""Digits of a register shown to people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("-a", "--all", action="store_true", help="also enclaves that have ended")
    parser.add_argument("--json", action="store_true", help="print JSON, with whole registers")


def run(args: argparse.Namespace) -> int:
    """Print the enclaves, the oldest first."""
    shown = [entry for entry in survey(current_places()) if args.all or entry["State"] != "ENDED"]
    if args.json:
        print(json.dumps(shown, indent=2), flush=True)
    else:
        print_table(HEADER, [row(entry, datetime.now(UTC)) for entry in shown])
    return 0


def survey(places: Places) -> list[dict[str, Any]]:
    """Return what is known of every enclave; the living are asked, all at once."""
    enclaves = list_enclaves(places)
    entries = [enclave.entry for enclave in enclaves if enclave.entry is not None]
    answers = ask(places.run, entries, Request("describe"))
    replies = {a.record.enclave_id: a.reply.body for a in answers if a.reply is not None and a.reply.body}
    return [describe(enclave, replies.get(enclave.enclave_id)) for enclave in enclaves]


def describe(enclave: Enclave, reply: Mapping[str, Any] | None) -> dict[str, Any]:
    """Join an enclave's record with its supervisor's reply; fields that nobody knows are null."""
    record = enclave.record
    fields: dict[str, Any] = {"EnclaveName": enclave.name, "EnclaveID": enclave.enclave_id}
    if enclave.entry is not None:
        fields |= {"ProcessID": enclave.entry.pid, "EnclaveCID": enclave.entry.cid}
    if record is not None:
        fields |= record.to_json()
    if reply is not None:
        fields |= {name: reply[name] for name in reply if name not in ("State", "Flags")}
        fields["Debug"] = reply.get("Flags") == "DEBUG_MODE"
    if enclave.entry is None:
        fields["State"] = "ENDED" if record is not None and record.is_over else "STARTING"
    else:
        fields["State"] = "NOT ANSWERING" if reply is None else reply.get("State")
    fields["Document"] = None
    if isinstance(fields.get("Debug"), bool):
        fields["Document"] = document_registers(fields.get("Measurements"), debug=fields["Debug"])
    if record is not None and record.is_over:
        fields["ExitCode"] = exit_code(record)
        fields["Explanation"] = explain(record)
    return fields


def row(entry: Mapping[str, Any], now: datetime) -> list[str]:
    """Return an enclave's line for people."""
    debug, document = entry.get("Debug"), entry["Document"]
    mode = {True: "debug", False: "production"}.get(debug, "?") if debug is not None else "?"
    memory = entry.get("MemoryMiB")
    return [
        str(entry["EnclaveName"]),
        str(entry["EnclaveID"]),
        _known(entry.get("EnclaveCID")),
        _known(entry.get("NumberOfCPUs")),
        "?" if memory is None else f"{memory} MiB",
        mode,
        entry["Explanation"] if entry["State"] == "ENDED" else str(entry["State"]).lower(),
        age(entry.get("Started"), now),
        "?" if document is None else str(document.get("PCR0", "?"))[:SHORT] + (" (debug)" if debug else ""),
    ]


def age(started: Any, now: datetime) -> str:
    """Say how long ago something was, in its largest unit."""
    try:
        seconds = int((now - datetime.fromisoformat(str(started))).total_seconds())
    except (ValueError, TypeError):
        return "?"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


def _known(value: Any) -> str:
    return "?" if value is None else str(value)
