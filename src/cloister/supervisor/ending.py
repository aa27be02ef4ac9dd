"""Why an enclave ended, as a word and a sentence; pure.

What the guest says of itself is taken as its word: its init's report, its program's status and, in debug
mode, what is on the console. Texts of AWS's init: nitro-tools section 4; of the kernel: ``panic()`` calls.
"""

import re
import signal
from dataclasses import dataclass
from typing import Final

MAX_QUOTE: Final = 200
"""Characters of a guest's words in a sentence of ours."""
_PANIC: Final = re.compile(rb"Kernel panic - not syncing: ([^\r\n]{1,400})")
_INIT_FAILED: Final = re.compile(
    rb"cloister init: ([^\r\n]{1,400})\r?\n[^\r\n]{0,80}cloister init: the program was not started"
)
_AWS_INIT: Final = re.compile(
    rb"(Could not open /(?:env|cmd) file|child exited (?:with error|by signal))[^\r\n]{0,80}"
)
_UNPACKING_FAILED: Final = re.compile(rb"Initramfs unpacking failed: ([^\r\n]{1,200})")
MORE_MEMORY: Final = "its ramdisks did not fit into its memory: give it more with --memory"
_HINTS: Final = (
    ("No working init found", "there is no init in its ramdisks that could be started"),
    ("Requested init", "the init that its command line names could not be started"),
    ("VFS: Unable to mount root fs", f"there is no /init in its ramdisks, or {MORE_MEMORY}"),
    ("System is deadlocked on memory", "it ran out of memory: give it more with --memory"),
    ("Out of memory", "it ran out of memory: give it more with --memory"),
    ("Attempted to kill init", "its init ended, which it must not"),
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an enclave ended: the flight record's fields."""

    cause: str
    reason: str
    exit_status: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class Remains:
    """What is known of a machine that has ended."""

    status: int
    """Bubblewrap's: QEMU's own, 128 and its signal, or minus the signal that killed bubblewrap."""
    complaint: str = ""
    """What QEMU said."""
    device_fault: str | None = None
    wait_status: int | None = None
    """The program's, as the init reported it."""
    init_failure: str | None = None
    """Why the program was not started, as the init reported it."""
    console: bytes | None = None
    """The last of what the guest printed; None in production mode."""


def explain(remains: Remains) -> Ending:
    """Return why a machine ended that nobody here has ended."""
    if remains.device_fault is not None:
        return Ending("device-misused", _sentence(remains.device_fault))
    if remains.wait_status is not None:
        return _explain_program(remains.wait_status)
    if remains.init_failure is not None:
        return _failed_init(remains.init_failure)
    if remains.status < 0:
        return _explain_death("bubblewrap, QEMU's jail,", -remains.status)
    if remains.status > 128:
        return _explain_death("QEMU", remains.status - 128)
    if remains.status != 0:
        said = f": {quote(remains.complaint, 500)}" if remains.complaint else ""
        return Ending("machine-failed", _sentence(f"QEMU ended with status {remains.status}{said}"))
    told = None if remains.console is None else read_console(remains.console)
    if told is not None:
        return told
    return Ending("reset", f"The guest reset itself and told nothing{_last_seen(remains.console)}.")


def explain_silence(seconds: int, console: bytes | None) -> Ending:
    """Return why a guest that sent no heartbeat in time did not."""
    told = None if console is None else read_console(console)
    if told is not None:
        return told
    return Ending("boot-timeout", f"The enclave sent no heartbeat within {seconds} s{_last_seen(console)}.")


def read_console(console: bytes) -> Ending | None:
    """Return the end that a console tells of, if it does."""
    failed = _INIT_FAILED.search(console)
    if failed is not None:
        return _failed_init(_text(failed[1]))
    said = _AWS_INIT.search(console)
    if said is not None:
        return _explain_aws_init(_text(said[0]))
    panic = _PANIC.search(console)
    return None if panic is None else Ending("panic", _explain_panic(_text(panic[1]), console))


def last_line(console: bytes) -> str | None:
    """Return the last line on a console that says something, to be quoted."""
    lines = [line for line in map(_text, console[-4096:].splitlines()) if line]
    return lines[-1] if lines else None


def name_of(number: int) -> str:
    """Return a signal's name and number, such as SIGSEGV (11)."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def quote(text: str, limit: int = MAX_QUOTE) -> str:
    """Return a guest's words fit for a sentence: printable, on one line, and bounded."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 2 * limit])
    return " ".join(printable.split())[:limit]


def _explain_death(who: str, number: int) -> Ending:
    if number == signal.SIGKILL:
        by = "by somebody on this host, or by its kernel for want of memory"
        return Ending("machine-killed", _sentence(f"{who} was killed by {name_of(number)}: {by}"))
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        return Ending("machine-killed", _sentence(f"{who} was ended from outside by {name_of(number)}"))
    return Ending("machine-failed", _sentence(f"{who} crashed with {name_of(number)}"))


def _explain_program(wait_status: int) -> Ending:
    number = wait_status & 0x7F
    if number:
        return Ending("killed-by-signal", f"The program was killed by {name_of(number)}.", signal=number)
    status = wait_status >> 8 & 0xFF
    return Ending("exited", f"The program exited with status {status}.", exit_status=status)


def _failed_init(why: str) -> Ending:
    return Ending("init-failed", _sentence(f"The enclave's init could not start the program: {quote(why)}"))


def _explain_aws_init(line: str) -> Ending:
    if line.startswith("Could not open"):
        return Ending("init-failed", f"The enclave's init found no files (it said '{line}'): {MORE_MEMORY}.")
    if "by signal" in line:
        return Ending("killed-by-signal", f"The program was killed by a signal (its init said '{line}').")
    return Ending("exited", f"The program exited with an error (its init said '{line}').")


def _explain_panic(message: str, console: bytes) -> str:
    said = f"The guest's kernel panicked: '{message}'"
    unpacking = _UNPACKING_FAILED.search(console)
    if unpacking is not None:
        return f"{said}; its ramdisks could not be unpacked ('{_text(unpacking[1])}'): {MORE_MEMORY}."
    hint = next((hint for text, hint in _HINTS if text in message), None)
    return f"{said}." if hint is None else f"{said}; {hint}."


def _last_seen(console: bytes | None) -> str:
    if console is None:
        return ": in production mode a kernel panic or a failing init is not heard; run it with --debug-mode"
    last = last_line(console)
    return ", and printed nothing" if last is None else f"; the last it printed was '{last}'"


def _text(line: bytes) -> str:
    return quote(line.decode(errors="replace"))


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."
