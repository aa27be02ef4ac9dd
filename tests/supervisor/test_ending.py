"""How the end of an enclave is told: one word and one sentence, from what is left of it."""

import pytest

from cloister.supervisor.ending import Ending, Remains, explain, explain_silence, quote

INIT_WORDS = (
    b"cloister init: the image names no program: /cmd is empty\r\n"
    b"cloister init: the program was not started; ending the enclave\r\n"
)
PRODUCTION_HINT = "in production mode a kernel panic or a failing init is not heard"


@pytest.mark.parametrize(
    ("remains", "ending"),
    [
        (
            Remains(0, wait_status=7 << 8),
            Ending("exited", "The program exited with status 7.", exit_status=7),
        ),
        (Remains(0, wait_status=0), Ending("exited", "The program exited with status 0.", exit_status=0)),
        (
            Remains(0, wait_status=0x8B),
            Ending("killed-by-signal", "The program was killed by SIGSEGV (11).", signal=11),
        ),
        (
            Remains(0, wait_status=40, console=b"Kernel panic - not syncing: a lie"),
            Ending("killed-by-signal", "The program was killed by signal 40.", signal=40),
        ),
        (
            Remains(0, init_failure="cannot mount \n/proc"),
            Ending("init-failed", "The enclave's init could not start the program: cannot mount /proc."),
        ),
        (
            Remains(0, console=b"[ 0.1] x\r\n" + INIT_WORDS),
            Ending(
                "init-failed",
                "The enclave's init could not start the program: the image names no program: /cmd is empty.",
            ),
        ),
        (
            Remains(137),
            Ending(
                "machine-killed",
                "QEMU was killed by SIGKILL (9): "
                "by somebody on this host, or by its kernel for want of memory.",
            ),
        ),
        (Remains(143), Ending("machine-killed", "QEMU was ended from outside by SIGTERM (15).")),
        (Remains(139), Ending("machine-failed", "QEMU crashed with SIGSEGV (11).")),
        (
            Remains(-15),
            Ending("machine-killed", "Bubblewrap, QEMU's jail, was ended from outside by SIGTERM (15)."),
        ),
        (
            Remains(1, complaint="qemu: no\x1b[2J"),
            Ending("machine-failed", "QEMU ended with status 1: qemu: no [2J."),
        ),
        (Remains(1), Ending("machine-failed", "QEMU ended with status 1.")),
        (
            Remains(137, device_fault="the vsock device was misused: a ring without an end"),
            Ending("device-misused", "The vsock device was misused: a ring without an end."),
        ),
        (
            Remains(0, console=b""),
            Ending("reset", "The guest reset itself and told nothing, and printed nothing."),
        ),
        (
            Remains(0, console=b"one\r\ntwo\r\n\r\n"),
            Ending("reset", "The guest reset itself and told nothing; the last it printed was 'two'."),
        ),
    ],
    ids=lambda value: value.cause if isinstance(value, Ending) else None,
)
def test_end_is_told_by_what_is_left(remains: Remains, ending: Ending) -> None:
    """The surest witness is believed: device, program, init, QEMU, then the console."""
    assert explain(remains) == ending


def test_production_mode_says_where_to_look() -> None:
    """Where nobody may listen the sentence says so, and what to do."""
    assert PRODUCTION_HINT in explain(Remains(0)).reason
    assert PRODUCTION_HINT in explain_silence(180, None).reason


@pytest.mark.parametrize(
    ("console", "cause", "words"),
    [
        (
            b"Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            "panic",
            "--memory",
        ),
        (
            b"Kernel panic - not syncing: No working init found.  Try passing init=",
            "panic",
            "No working init",
        ),
        (b"Kernel panic - not syncing: System is deadlocked on memory", "panic", "--memory"),
        (
            b"Initramfs unpacking failed: write error\r\nKernel panic - not syncing: VFS: Unable to mount",
            "panic",
            "could not be unpacked ('write error'): its ramdisks did not fit into its memory",
        ),
        (
            b"Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
            "panic",
            "its init ended",
        ),
        (b"Kernel panic - not syncing: Fatal exception", "panic", "'Fatal exception'."),
        (
            b"Could not open /env file\r\nKernel panic - not syncing: Attempted to kill init! exitcode=0x0b",
            "init-failed",
            "--memory",
        ),
        (b"child exited with error\r\nreboot: Restarting system", "exited", "exited with an error"),
        (b"child exited by signal\r\n", "killed-by-signal", "killed by a signal"),
        (b"Kernel panic - not syncing: " + b"\x1b[31m\xff" * 500, "panic", "[31m"),
    ],
)
def test_console_tells_of_panics_and_failing_inits(console: bytes, cause: str, words: str) -> None:
    """The kernel's and AWS's init's own words are quoted, with what usually helps."""
    ending = explain(Remains(0, console=b"[    0.000000] Linux version 6.12\r\n" + console))
    assert ending.cause == cause
    assert words in ending.reason
    assert ending.reason.isprintable()
    assert len(ending.reason) < 600


def test_silence_is_told_with_the_last_that_was_seen() -> None:
    """A boot that takes too long is told with the console's last line, or the panic on it."""
    assert explain_silence(180, b"[ 1.0] waiting for nothing\r\n") == Ending(
        "boot-timeout",
        "The enclave sent no heartbeat within 180 s; the last it printed was '[ 1.0] waiting for nothing'.",
    )
    assert explain_silence(180, b"Kernel panic - not syncing: Fatal exception\r\n").cause == "panic"


def test_quotes_are_bounded_and_printable() -> None:
    """Nothing a guest says can take over a terminal or a page."""
    assert quote("a\x00\x1b]0;b\x07\u202e\n\nc" + "d" * 1000, 10) == "a ]0;b c" + "d" * 2
