"""``cloister inspect``: how well a running enclave is kept apart, as the kernel shows it."""

import argparse
import json
import sys
from collections.abc import Sequence

from cloister.cli.table import plain, plain_lines
from cloister.control import Answer, ControlError, Record, Register, Request, ask
from cloister.inspection import Subject, inspect_enclave
from cloister.places import current_places

HELP = """Print what is true of a running enclave's processes, measured from /proc: users, namespaces,
network, mounts, capabilities, seccomp, open files, memory, processors.
Nothing is taken from the configuration.

Exit code 0 when everything is as strong as it should be, 1 when something is not: it is listed last.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("enclave", metavar="NAME|ID", help="the enclave's name or id")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Look, print, and return 1 if anything is weaker than it should be."""
    run_directory = current_places().run
    record = _find(Register(run_directory).live(), args.enclave)
    (answer,) = ask(run_directory, [record], Request("describe"))
    subjects = inspect_enclave(record.pid, cpu_ids=_cpu_ids(answer))
    weak = [(subject, one) for subject in subjects for one in subject.findings if one.verdict != "ok"]
    if args.json:
        print(json.dumps(_to_json(record, subjects, strong=not weak), indent=2))
        return int(bool(weak))
    if sys.stdout.isatty():
        _print_tables(record, subjects)
    else:
        _print_lines(record, subjects)
    for subject, finding in weak:
        print(plain(f"weaker: {subject.role} (process {subject.pid}), {finding.subject}: {finding.why}"))
    if not weak:
        print(plain(f"Everything holds for {record.name} ({record.enclave_id})."))
    return int(bool(weak))


def _find(records: Sequence[Record], wanted: str) -> Record:
    for record in records:
        if wanted in (record.enclave_id, record.name):
            return record
    raise ControlError(
        f"There is no running enclave with the name or id {wanted!r}; "
        "nitro-cli describe-enclaves shows those there are."
    )


def _cpu_ids(answer: Answer) -> list[int] | None:
    """Return the processors that the enclave claims; None where its supervisor does not answer."""
    ids = answer.reply.body.get("CPUIDs") if answer.reply is not None else None
    return ids if isinstance(ids, list) else None


def _to_json(record: Record, subjects: Sequence[Subject], *, strong: bool) -> dict[str, object]:
    return {
        "EnclaveName": record.name,
        "EnclaveID": record.enclave_id,
        "Verdict": "ok" if strong else "weaker",
        "Processes": [
            {
                "Role": subject.role,
                "ProcessID": subject.pid,
                "Findings": [finding.to_json() for finding in subject.findings],
            }
            for subject in subjects
        ],
    }


def _title(record: Record, subject: Subject) -> str:
    return plain(f"{subject.role}, process {subject.pid}, of {record.name}")


def _print_lines(record: Record, subjects: Sequence[Subject]) -> None:
    """Print a line a finding, of any length: nothing that somebody may want to copy or search is folded."""
    for subject in subjects:
        rows = [(finding.verdict, finding.subject, finding.measured) for finding in subject.findings]
        print("\n".join([_title(record, subject), *plain_lines(("", "WHAT", "MEASURED"), rows), ""]))


def _print_tables(record: Record, subjects: Sequence[Subject]) -> None:
    from rich.console import Console  # noqa: PLC0415 -- machines that ask for JSON need none of it
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(soft_wrap=False)
    for subject in subjects:
        table = Table(title=escape(_title(record, subject)), title_justify="left", expand=False)
        for heading in ("", "what", "measured"):
            table.add_column(heading, overflow="fold")
        for finding in subject.findings:
            mark = "[green]ok[/green]" if finding.verdict == "ok" else "[bold red]weaker[/bold red]"
            table.add_row(mark, finding.subject, escape(plain(finding.measured)))  # QEMU names its own files
        console.print(table)
