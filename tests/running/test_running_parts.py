"""The parts of running an enclave that need none: policies, endings, signals, output, measuring."""

import os
import select
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.control import Record
from cloister.flight import FlightError, FlightRecord
from cloister.running import (
    BackOff,
    Output,
    RestartPolicy,
    RunningError,
    Sample,
    Signals,
    compare,
    document_registers,
    exit_code,
    explain,
    relay,
    take_sample,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def record_of(**fields: Any) -> FlightRecord:
    """Return a record with these fields."""
    known: dict[str, Any] = {
        "directory": Path("i-1-enc1"), "enclave_name": "web", "enclave_id": "i-1-enc1", "process_id": 1,
        "cid": 16, "cpu_ids": (0,), "memory_mib": 64, "debug": False, "image": "web.eif",
        "measurements": None, "started": NOW,
    }  # fmt: skip
    return FlightRecord(**known | fields)


@pytest.mark.parametrize(
    ("text", "code", "restarts", "wanted"),
    [
        ("no", 7, 0, False),
        ("always", 0, 1000, True),
        ("on-failure", 0, 0, False),
        ("on-failure", 125, 1000, True),
        ("on-failure:2", 7, 1, True),
        ("on-failure:2", 7, 2, False),
        ("on-failure:0", 7, 0, False),
    ],
)
def test_restart_policy(text: str, code: int, restarts: int, wanted: bool) -> None:
    """Never, always, or after failures, at most so many in a row."""
    assert RestartPolicy.parse(text).wants(code, restarts) is wanted


@pytest.mark.parametrize("text", ["", "sometimes", "always:3", "on-failure:", "on-failure:-1", "no\n"])
def test_bad_restart_policy_is_refused(text: str) -> None:
    """What is no policy is refused with those there are."""
    with pytest.raises(RunningError, match="on-failure:N"):
        RestartPolicy.parse(text)


def test_pauses_double_up_to_a_minute() -> None:
    """1 s, 2 s, … 60 s; a long run begins anew, a short one does not."""
    back_off = BackOff()
    assert [back_off.pause() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    back_off.ended(59.0)
    assert back_off.restarts == 8
    back_off.ended(60.0)
    assert (back_off.restarts, back_off.pause()) == (0, 1)


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        ({"cause": "exited", "exit_status": 7}, 7, "The program exited with status 7."),
        ({"cause": "killed-by-signal", "signal": 9}, 137, "The program was killed by signal 9."),
        ({"cause": "exited", "reason": "the program\nfailed"}, 125, "The program failed."),
        ({"cause": "terminated"}, 143, "It was terminated."),
        ({"cause": "init-failed"}, 126, "The guest's init could not start the program."),
        ({"cause": "boot-timeout"}, 125, "It did not boot in time."),
        ({"cause": "something new"}, 125, "It ended, nobody knows why."),
    ],
)
def test_an_end_is_a_code_and_a_sentence(fields: dict[str, Any], code: int, sentence: str) -> None:
    """A recorded reason is used, on one line; else the cause's own sentence."""
    record = record_of(ended=NOW, **fields)
    assert (exit_code(record), explain(record)) == (code, sentence)


def test_what_has_not_ended_has_no_code() -> None:
    """A living enclave has no exit code."""
    with pytest.raises(FlightError):
        exit_code(record_of())


def test_documents_of_debug_enclaves_show_zeros() -> None:
    """The image's registers in production, zeros in debug mode, nothing while they are unknown."""
    measured = {"HashAlgorithm": "Sha384 { ... }", "PCR0": "ab" * 48, "PCR8": "cd" * 48}
    assert document_registers(measured, debug=False) == {"PCR0": "ab" * 48, "PCR8": "cd" * 48}
    assert document_registers(measured, debug=True) == {"PCR0": "0" * 96, "PCR8": "0" * 96}
    assert document_registers(None, debug=True) is None


def sleeper() -> subprocess.Popen[bytes]:
    """Start a process that ignores SIGTERM after it has had one, and says so."""
    code = (
        "import signal,sys,time\n"
        "def heard(*_): print('asked', flush=True)\n"
        "signal.signal(signal.SIGTERM, heard)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-Sc", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_first_signal_asks_and_the_second_kills() -> None:
    """The target gets SIGTERM for the first signal, whichever it is, and SIGKILL for the second."""
    before = signal.getsignal(signal.SIGINT)
    with sleeper() as process, Signals() as signals:
        assert process.stdout is not None
        pidfd = os.pidfd_open(process.pid)
        signals.aim(pidfd)
        assert signals.exit_code is None
        os.kill(os.getpid(), signal.SIGINT)
        assert process.stdout.readline() == b"asked\n"
        assert not signals.pause(60)
        os.kill(os.getpid(), signal.SIGTERM)
        assert process.wait() == -signal.SIGKILL
        assert signals.exit_code == 130
        os.close(pidfd)
    assert signal.getsignal(signal.SIGINT) == before


def test_signal_before_there_is_a_target_reaches_it_later() -> None:
    """A process that is aimed at after the signal is asked to end at once."""
    with sleeper() as process, Signals() as signals:
        assert process.stdout is not None
        os.kill(os.getpid(), signal.SIGHUP)
        pidfd = os.pidfd_open(process.pid)
        signals.aim(pidfd)
        assert process.stdout.readline() == b"asked\n"
        process.kill()
        os.close(pidfd)


def test_time_limit_is_a_signal() -> None:
    """When the limit is reached the pause ends and the exit code is timeout(1)'s."""
    with Signals() as signals:
        signals.limit(0.001)
        assert not signals.pause(60)
        assert signals.exit_code == 124


def test_console_is_copied_whole(tmp_path: Path) -> None:
    """More than any buffer takes arrives complete, in order, through a pipe that is read slowly."""
    console, guest = socket.socketpair()
    read, write = os.pipe()
    printing = "import os\nfor i in range(4096): os.write(1, bytes(range(256)))"
    reading = "import os\nwhile piece := os.read(0, 1000): os.write(1, piece)"
    output = Output(write)
    with (
        (tmp_path / "read").open("wb") as file,
        console,
        subprocess.Popen([sys.executable, "-Sc", printing], stdout=guest.fileno()),
        subprocess.Popen([sys.executable, "-Sc", reading], stdin=read, stdout=file),
    ):
        os.close(read)
        guest.close()
        relay(console, None, output)
        os.close(write)
    assert (tmp_path / "read").read_bytes() == bytes(range(256)) * 4096
    assert output.received == 1 << 20


def test_closed_output_ends_the_copying() -> None:
    """A pipe whose reader is gone is noticed though nothing is to be written."""
    console, guest = socket.socketpair()
    read, write = os.pipe()
    os.close(read)
    output = Output(write)
    with console, guest:
        relay(console, None, output)
    assert output.is_closed
    os.close(write)


def test_reader_that_takes_nothing_cannot_hold_an_ended_enclave() -> None:
    """After a signal, output that nobody takes is given up."""
    console, guest = socket.socketpair()
    read, write = os.pipe()
    while select.select([], [write], [], 0)[1]:
        os.write(write, bytes(4096))
    output = Output(write)
    with console, guest, Signals() as signals:
        guest.sendall(b"last words")
        signals.receive(signal.SIGINT)
        relay(console, None, output, signals)
    assert not output.is_idle
    os.close(read)
    os.close(write)


def test_usage_is_the_difference_of_two_samples() -> None:
    """Percents are of one processor, by the time between the samples; a new vCPU counts from nothing."""
    entry = Record("a1", "i-1-enca1", "web", 16, 7)
    tick = os.sysconf("SC_CLK_TCK")
    before = Sample(entry, 10.0, 0, {"CPU 0/TCG": 5}, 0, 1 << 20, 0, 0)
    after = Sample(
        entry, 12.0, 3 * tick, {"CPU 0/TCG": 5 + tick, "CPU 1/TCG": tick // 2}, 4096, 1 << 20, 9, 8
    )
    usage = compare(before, after)
    assert (usage.cpu_percent, usage.vcpu_percents) == (150.0, (50.0, 25.0))
    assert (usage.guest_bytes, usage.guest_size, usage.supervisor_bytes, usage.machine_bytes) == (
        4096, 1 << 20, 9, 8,
    )  # fmt: skip


def test_guest_memory_is_measured_where_it_is() -> None:
    """What was really put into the memory file is counted, not its size; this process is the supervisor."""
    entry = Record("a1", "i-1-enca1", "web", 16, os.getpid())
    assert take_sample(entry) is None
    memory = os.memfd_create("guest-memory")
    try:
        os.ftruncate(memory, 1 << 24)
        os.pwrite(memory, b"x" * 8192, 1 << 20)
        sample = take_sample(entry)
    finally:
        os.close(memory)
    assert sample is not None
    assert (sample.guest_bytes, sample.guest_size) == (8192, 1 << 24)
    assert sample.supervisor_bytes > 1 << 20
    assert sample.ticks > 0
