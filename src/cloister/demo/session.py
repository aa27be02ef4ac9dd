"""A session a person can read: real commands in real processes, each shown before what it prints."""

import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloister.errors import CloisterError

COMMAND_SECONDS = 180.0
STOP_SECONDS = 10.0
READY_SECONDS = 30.0


class DemoError(CloisterError):
    """A step did not end as it must."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command printed and returned."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


@dataclass(slots=True)
class Session:
    """Runs commands in one directory and environment, and tells the reader."""

    say: Callable[[str], None]
    directory: Path
    environment: Mapping[str, str]
    step: str = "preparation"
    """What is under way, for the sentence that says what failed."""
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def begin(self, number: int, title: str) -> None:
        """Start a numbered step."""
        self.step = f"step {number} ({title})"
        self.say(f"\n== {number}. {title}")

    def run(self, *words: str, expect: int = 0, quiet: bool = False) -> Outcome:
        """Run a command to its end and show it; DemoError when its exit code is not the expected one."""
        self.show_command(words)
        return self.show(self.finish(self.spawn(*words)), expect=expect, quiet=quiet)

    def spawn(self, *words: str) -> "Running":
        """Start a command whose output is shown later."""
        process = subprocess.Popen(
            self._resolve(words),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.background.append(process)
        return Running(words, process)

    def finish(self, running: "Running") -> Outcome:
        """Wait for a command; DemoError when it takes too long."""
        try:
            stdout, stderr = running.process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"{running.words[0]} did not end within {COMMAND_SECONDS:g} s") from error
        self.background.remove(running.process)
        printed, said = (text.decode(errors="replace") for text in (stdout, stderr))
        return Outcome(running.words, running.process.returncode, printed, said)

    def show(self, outcome: Outcome, *, expect: int = 0, quiet: bool = False) -> Outcome:
        """Show what a command printed; DemoError when its exit code is not the expected one."""
        failed = outcome.code != expect
        for text in (outcome.stderr, outcome.stdout):
            if text.strip() and (failed or not quiet):
                self.say(text.rstrip("\n"))
        if failed:
            raise DemoError(f"'{shown(outcome.words)}' returned {outcome.code}, {expect} was expected")
        return outcome

    def show_command(self, words: Sequence[str], *, background: bool = False) -> None:
        """Show a command line as it would be typed."""
        self.say(f"$ {shown(words)}{' &' if background else ''}")

    def serve(self, *words: str, log: Path) -> str:
        """Start a service that tells its address through ``--ready-fd``, and return the address."""
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as pipe:
            try:
                process = self._background([*words, "--ready-fd", str(writer)], log, [writer])
            finally:
                os.close(writer)
            ready, _, _ = select.select([pipe], [], [], READY_SECONDS)
            address = os.read(reader, 4096).decode().strip() if ready else ""
        if not address or process.poll() is not None:
            raise DemoError(f"'{shown(words)}' did not start: {last_line(log)}")
        return address

    def start(self, *words: str, log: Path, ready: Callable[[], bool]) -> None:
        """Start a service and wait until it is ready."""
        process = self._background(words, log)
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"'{shown(words)}' did not start: {last_line(log)}")
            time.sleep(0.02)

    def stop_all(self) -> None:
        """End everything that was started here and still runs, last started first, by process id."""
        for process in reversed(self.background):
            stop(process)
        self.background.clear()

    def _background(
        self, words: Sequence[str], log: Path, fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a command that writes to a log, and show its command line."""
        self.show_command(words, background=True)
        with log.open("ab") as sink:
            process = subprocess.Popen(
                self._resolve(words),
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=fds,
            )
        self.background.append(process)
        return process

    def _resolve(self, words: Sequence[str]) -> list[str]:
        """Find our own commands beside the interpreter that runs us, others on PATH."""
        name = words[0]
        beside = Path(sys.executable).with_name(name)
        found = sys.executable if name == "python" else str(beside) if beside.exists() else shutil.which(name)
        if found is None:
            raise DemoError(f"the command {name} is neither beside {sys.executable} nor on PATH")
        return [found, *words[1:]]


@dataclass(frozen=True, slots=True)
class Running:
    """A command that has been started."""

    words: tuple[str, ...]
    process: subprocess.Popen[bytes]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End one process: SIGTERM, and SIGKILL when it does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def shown(words: Sequence[str]) -> str:
    """Return a command line as a person would type it."""
    return shlex.join(words)


def last_line(log: Path) -> str:
    """Return the last line of a log, for a sentence."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
