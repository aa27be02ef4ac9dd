"""Run any verifier of attestation documents over this corpus, and say where it differs.

    run.py -- COMMAND {document} {root} {time} ...    one process a case; exit status 0 accepts
    run.py --lines -- COMMAND ...                     one process; a JSON line in, a JSON line out

Needs Python 3.11 and nothing else. README.md beside this file describes placeholders, lines and levels.
Exit status: 0 when the verifier agrees with every case, 1 when it does not, 2 when it could not be asked.
"""

import argparse
import base64
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
LEVELS = ("document", "expectations", "strictness")
SKIPS = 77  # exit status of a command that cannot judge this case
MAX_LINE = 65536  # characters of an answer
NO_SUCH_COMMAND = (126, 127)
CRASH_MARKS = re.compile(
    r"^Traceback \(most recent call last\)|^panic: |^fatal error: |panicked at |^Exception in thread|"
    r"AddressSanitizer|Segmentation fault",
    re.MULTILINE,
)
PAST = {"accept": "accepted", "refuse": "refused"}
Case = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a verifier said: ``accept``, ``refuse``, ``skip``, ``crash`` or ``timeout``."""

    verdict: str
    step: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Finding:
    """A case and its answer."""

    id: str
    category: str
    level: str
    wrong: str | None
    expected: str
    got: str
    step: str | None
    got_step: str | None
    reason: str
    agrees: bool


class UnusableError(Exception):
    """The corpus or the verifier's command cannot be used."""


def load_cases(corpus: Path, levels: set[str], pattern: str) -> list[Case]:
    """Return the manifest's cases of the given levels whose id matches the pattern."""
    try:
        matches = re.compile(pattern).search
    except re.error as error:
        raise UnusableError(f"--only '{pattern}' is no regular expression: {error}") from error
    try:
        manifest = json.loads((corpus / "manifest.json").read_bytes())
        if manifest["format"] != 1:
            raise UnusableError(f"{corpus}/manifest.json has format {manifest['format']!r}, not 1")
        cases = [case for case in manifest["cases"] if case["level"] in levels and matches(case["id"])]
    except (OSError, ValueError, KeyError) as error:
        raise UnusableError(f"{corpus}/manifest.json cannot be used: {error}") from error
    if not cases:
        raise UnusableError(f"no case of {corpus}/manifest.json has such a level and id")
    return cases


def seconds_of(case: Case) -> int:
    """Return the moment to verify at, in seconds since 1970."""
    return int(datetime.fromisoformat(case["time"]).timestamp())


# One process a case


def arguments(command: list[str], corpus: Path, case: Case) -> list[str]:
    """Fill the placeholders of a command."""
    expect = case["expect"]
    values = {
        "document": str(corpus / case["file"]),
        "root": str(corpus / case["roots"]),
        "time": case["time"],
        "unix": str(seconds_of(case)),
        "id": case["id"],
        "expect": json.dumps(expect),
        "max_age": str(expect.get("max_age", "")),
        "allow_debug": "true" if expect.get("allow_debug") else "false",
    }
    for name in ("pcrs", "nitrotpm_pcrs"):
        values[name] = json.dumps(expect[name]) if name in expect else ""
    for name in ("nonce", "user_data", "public_key"):
        values[name] = expect.get(name, "")
    placeholder = re.compile("{([a-z_]+)}")
    for name in placeholder.findall(" ".join(command)):
        if name not in values:
            raise UnusableError(f"there is no placeholder {{{name}}}, only {', '.join(values)}")
    return [placeholder.sub(lambda found: values[found[1]], word) for word in command]


def end(process: subprocess.Popen[Any]) -> None:
    """End a process and what it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def start(command: list[str], **streams: Any) -> subprocess.Popen[Any]:
    """Start a process in a group of its own."""
    try:
        return subprocess.Popen(command, start_new_session=True, **streams)
    except OSError as error:
        raise UnusableError(f"the command '{command[0]}' cannot be started: {error}") from error


def keep_beginning(stream: IO[bytes], kept: bytearray) -> None:
    """Read a stream to its end, so that the writer never waits, and keep no more than an answer's size."""
    with suppress(OSError, ValueError):
        while chunk := os.read(stream.fileno(), MAX_LINE):
            kept += chunk[: MAX_LINE - len(kept)]


def ask_command(command: list[str], corpus: Path, case: Case, timeout: float) -> Answer:
    """Run the command for one case and judge it by how it ended."""
    process = start(
        arguments(command, corpus, case),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    kept = bytearray()
    reader = threading.Thread(target=keep_beginning, args=(process.stdout, kept), daemon=True)
    reader.start()
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        return Answer("timeout", reason=f"no answer within {timeout:g} s")
    finally:
        end(process)
        reader.join(timeout)
    return verdict_of(status, kept.decode(errors="replace").strip())


def verdict_of(status: int, said: str) -> Answer:
    """Judge an exit status and what was printed."""
    last = said.splitlines()[-1] if said else ""
    if status in NO_SUCH_COMMAND:
        raise UnusableError(f"the command ended with status {status}: {last}")
    if status < 0:
        return Answer("crash", reason=f"ended by signal {-status}")
    if status != 0 and CRASH_MARKS.search(said):
        return Answer("crash", reason=last)
    return Answer({0: "accept", SKIPS: "skip"}.get(status, "refuse"), reason=last)


def ask_each(command: list[str], corpus: Path, cases: list[Case], timeout: float) -> Iterator[Answer]:
    """Ask a command, one process a case."""
    for case in cases:
        yield ask_command(command, corpus, case, timeout)


# One process, a line a case


class LineVerifier:
    """A verifier process that answers lines; started on first use and again after it ended."""

    def __init__(self, command: list[str], timeout: float) -> None:
        self.command = command
        self.timeout = timeout
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str] = queue.Queue()

    def ask(self, question: Case) -> Answer:
        """Return the answer to one question."""
        if not self.lines.empty():  # it ended after its last answer, or said more than it was asked
            surplus = self.lines.get()
            self.close(patience=0)
            if surplus:
                return Answer("crash", reason=f"a line before the question: {surplus.strip()[:200]!r}")
        process = self.process or self._start()
        threading.Thread(target=self._write, args=(process, question), daemon=True).start()
        try:
            line = self.lines.get(timeout=self.timeout)
        except queue.Empty:
            self.close(patience=0)
            return Answer("timeout", reason=f"no answer within {self.timeout:g} s")
        if not line:
            status = self.close()
            return Answer("crash", reason=f"the process ended with status {status} instead of answering")
        return answer_of(line)

    def _start(self) -> subprocess.Popen[str]:
        """Start the process and read what it says, not far ahead of the questions."""
        self.process = start(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue(maxsize=16)
        threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True).start()
        return self.process

    def close(self, patience: float = 5) -> int:
        """Tell the process that no more is to come, end it if it goes on, and return its status."""
        process, self.process, self.lines = self.process, None, queue.Queue()
        if process is None:
            return 0
        with suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        end(process)
        return process.returncode

    @staticmethod
    def _write(process: subprocess.Popen[str], question: Case) -> None:
        """Write a line; a process that does not read it is found by its missing answer."""
        with suppress(OSError, ValueError):
            process.stdin.write(json.dumps(question) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: "queue.Queue[str]") -> None:
        """Hand lines on; an empty one says that the process ended."""
        with suppress(OSError, ValueError):
            while line := process.stdout.readline(MAX_LINE):  # type: ignore[union-attr]
                lines.put(line)
        lines.put("")


def answer_of(line: str) -> Answer:
    """Read an answer line."""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    match said:
        case {"crash": str(reason)}:
            return Answer("crash", reason=reason)
        case {"skip": str(reason)}:
            return Answer("skip", reason=reason)
        case {"accepts": bool(accepts)}:
            step, reason = said.get("step"), said.get("reason")
            return Answer("accept" if accepts else "refuse", step, str(reason or ""))
    return Answer("crash", reason=f"not an answer line: {line.strip()[:200]!r}")


def question_of(corpus: Path, case: Case) -> Case:
    """Return what a line says about a case."""
    document, root = corpus / case["file"], corpus / case["roots"]
    return {
        "id": case["id"],
        "document": str(document),
        "document_base64": base64.b64encode(document.read_bytes()).decode(),
        "root": str(root),
        "root_pem": root.read_text(),
        "time": case["time"],
        "unix": seconds_of(case),
        "expect": case["expect"],
    }


def ask_lines(command: list[str], corpus: Path, cases: list[Case], timeout: float) -> Iterator[Answer]:
    """Ask a process that reads and writes lines."""
    verifier = LineVerifier(command, timeout)
    try:
        for case in cases:
            yield verifier.ask(question_of(corpus, case))
    finally:
        verifier.close()


# Judging and reporting


def judge(case: Case, answer: Answer, *, steps: bool) -> Finding:
    """Hold an answer against a case's verdict and, if asked to, its step."""
    agrees = answer.verdict in (case["verdict"], "skip")
    if steps and answer.verdict == case["verdict"] == "refuse":
        agrees = answer.step == case["step"]
    return Finding(
        id=case["id"],
        category=case["category"],
        level=case["level"],
        wrong=case["wrong"],
        expected=case["verdict"],
        got=answer.verdict,
        step=case["step"],
        got_step=answer.step,
        reason=answer.reason,
        agrees=agrees,
    )


def print_table(findings: list[Finding]) -> None:
    """Print a row for each category, then each difference."""
    row = "{:<14}{:>7}{:>8}{:>9}{:>9}{:>8}{:>9}".format
    print(row("category", "cases", "agree", "accepted", "refused", "crash", "skipped"))
    for category in [*dict.fromkeys(finding.category for finding in findings), "all"]:
        chosen = [finding for finding in findings if category in ("all", finding.category)]
        got = Counter(finding.got for finding in chosen)
        agree = sum(finding.agrees and finding.got != "skip" for finding in chosen)
        crashed = got["crash"] + got["timeout"]
        print(row(category, len(chosen), agree, got["accept"], got["refuse"], crashed, got["skip"]))
    for finding in findings:
        if not finding.agrees:
            print(f"\n{finding.id} [{finding.level}]: {describe(finding)}")
            print(f"  {finding.wrong or 'nothing is wrong with it'}")
            if finding.reason:
                print(f"  the verifier: {finding.reason[:300]}")


def hint(findings: list[Finding]) -> str | None:
    """Tell a verifier that was asked wrongly, as with a mistyped option: it refuses whatever it is given."""
    sound = [finding for finding in findings if finding.expected == "accept" and finding.got != "skip"]
    if not sound or any(finding.got != "refuse" for finding in sound):
        return None
    said = sound[0].reason[:200]
    return f"it refuses every sound document too: is the command right? Its first words: {said or 'none'}"


def describe(finding: Finding) -> str:
    """Say how an answer differs."""
    if finding.got in ("crash", "timeout"):
        return f"{finding.got}, where the verdict is to {finding.expected}"
    if finding.got != finding.expected:
        return f"{PAST[finding.got]}, and must be {PAST[finding.expected]}"
    return f"refused at step '{finding.got_step}', and must be at '{finding.step}'"


def positive(text: str) -> float:
    """Read a number of seconds above 0, for argparse."""
    if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,9})?", text, re.ASCII) is None or float(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0, below 100000")
    return float(text)


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=HERE, help="directory with manifest.json")
    parser.add_argument("--lines", action="store_true", help="COMMAND reads and writes a JSON line a case")
    parser.add_argument("--level", action="append", choices=LEVELS, help="judge this level (repeatable; all)")
    parser.add_argument("--only", default="", metavar="REGEX", help="judge cases whose id matches")
    parser.add_argument("--steps", action="store_true", help="a refusal must name its step (with --lines)")
    parser.add_argument("--timeout", type=positive, default=20, metavar="SECONDS", help="for each case (20)")
    parser.add_argument("--json", action="store_true", help="print every finding as JSON instead of a table")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the verifier, after --")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run, report, and return the exit status."""
    options = parse(argv)
    ask: Callable[..., Iterator[Answer]] = ask_lines if options.lines else ask_each
    try:
        cases = load_cases(options.corpus, set(options.level or LEVELS), options.only)
        answers = ask(options.command, options.corpus, cases, options.timeout)
        findings = [
            judge(case, answer, steps=options.steps) for case, answer in zip(cases, answers, strict=True)
        ]
    except (UnusableError, OSError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        print_table(findings)
    if said := hint(findings):
        print(f"run.py: {said}", file=sys.stderr)
    return 0 if all(finding.agrees for finding in findings) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
