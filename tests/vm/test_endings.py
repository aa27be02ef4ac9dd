"""When things break: each end of an enclave leads to a known state, and its record says why."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cloister.eif import Image, SectionSource, SectionType, write_eif
from cloister.flight import FlightRecord, find_record, list_records, read_console, read_events
from cloister.running import exit_code
from simulators.nitro_host import (
    OBEDIENT,
    NitroHost,
    find_supervisor,
    is_alive,
    process_tree,
    wait_for,
    wait_until,
)

pytestmark = pytest.mark.vm
EMPTY_ARCHIVE = b"070701" + b"0" * 88 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0" + bytes(3)


@dataclass(frozen=True)
class Host(NitroHost):
    """One user's directories, and an image whose program does as it is told."""

    image: Path

    def record(self, enclave: dict[str, Any]) -> FlightRecord:
        """Return an enclave's record once it is over and its processes are gone."""
        wait_until(lambda: not is_alive(enclave["ProcessID"]), 20)
        record = find_record(self.logs, enclave["EnclaveID"])
        assert record.is_over
        return record


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Build the image and a root of trust."""
    host = NitroHost.make(tmp_path_factory.mktemp("host"))
    image, _ = host.build("obedient", OBEDIENT, ["/bin/obedient"])
    return Host(host.top, host.environment, image)


@pytest.fixture
def host(built: Host) -> Iterator[Host]:
    """Give the host to one test and see that the test leaves nothing on it."""
    try:
        yield built
    finally:
        built.cli("terminate-enclave", "--all", code=None)
    assert built.left() == []


@pytest.fixture
def small_disk(host: Host, tmp_path: Path) -> Iterator[Host]:
    """Give a host whose sockets and logs are on a small disk of their own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", tmp_path], check=True)
    moved = {"NITRO_CLI_SOCKETS_PATH": str(tmp_path / "run"), "NITRO_CLI_LOGS_PATH": str(tmp_path / "logs")}
    small = replace(host, environment=host.environment | moved)
    try:
        yield small
        assert small.left() == []
    finally:
        small.cli("terminate-enclave", "--all", code=None)
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize(
    ("order", "cause", "words", "code"),
    [
        ("exit 7", "exited", "The program exited with status 7.", 7),
        ("raise 11", "killed-by-signal", "The program was killed by SIGSEGV (11).", 139),
        ("panic", "panic", "The guest's kernel panicked: 'Out of memory", 125),
    ],
)
def test_end_from_inside_is_recorded(host: Host, order: str, cause: str, words: str, code: int) -> None:
    """A program that exits or dies, and a panic on a debug console, are in the record with their code."""
    enclave = host.start(host.image, "--debug-mode", memory=96)
    host.order(enclave, order)
    record = host.record(enclave)
    assert (record.cause, exit_code(record)) == (cause, code)
    assert record.reason is not None
    assert words in record.reason
    assert record.booted is not None
    assert b"waiting for orders" in read_console(record)
    assert f"the enclave ends ({cause})" in read_events(record)
    assert host.describe() == []


def test_panic_in_production_is_an_end_that_told_nothing(host: Host) -> None:
    """Without a console a panic is a reset, and the reason says where to look; there is no console kept."""
    enclave = host.start(host.image, memory=96)
    host.order(enclave, "panic")
    record = host.record(enclave)
    assert record.cause == "reset"
    assert record.reason is not None
    assert "--debug-mode" in record.reason
    assert read_console(record) == b""


def test_boot_that_panics_fails_with_the_panic(host: Host, tmp_path: Path) -> None:
    """An image without an init is E36 with the kernel's words and what is wrong, and so is its record."""
    whole = Image.from_buffer(host.image.read_bytes())
    broken = tmp_path / "headless.eif"
    with broken.open("wb") as file:
        kinds = {SectionType.CMDLINE: f"{whole.cmdline} rdinit=/none".encode()}
        sections = [
            SectionSource.of(section.kind, kinds.get(section.kind, section.payload))
            for section in whole.sections
        ]
        write_eif(file, sections)
    refused = host.cli(*host.run_words(broken, "--debug-mode"), code=39)
    assert "[ E36 ] Enclave boot failure" in refused.stderr
    assert "The guest's kernel panicked: '" in refused.stderr
    record = list_records(host.logs)[-1]
    assert record.enclave_name == "headless"
    assert record.cause == "panic"
    assert record.booted is None
    assert host.describe() == []


def test_init_that_finds_no_files_fails_the_boot_with_its_words(host: Host, tmp_path: Path) -> None:
    """An image whose second ramdisk is empty is E36 with what its init says, in production mode too."""
    whole = Image.from_buffer(host.image.read_bytes())
    ramdisks = iter((whole.ramdisks[0], EMPTY_ARCHIVE))
    broken = tmp_path / "empty.eif"
    with broken.open("wb") as file:
        sections = [
            SectionSource.of(
                section.kind, next(ramdisks) if section.kind is SectionType.RAMDISK else section.payload
            )
            for section in whole.sections
        ]
        write_eif(file, sections)
    refused = host.cli(*host.run_words(broken), code=39)
    assert "[ E36 ] Enclave boot failure" in refused.stderr
    assert "the image did not unpack completely (too little memory?): missing /env" in refused.stderr
    assert list_records(host.logs)[-1].cause == "init-failed"


def test_image_whose_program_is_missing_says_so(host: Host) -> None:
    """A program that cannot be run ends its enclave as in a shell, with 127."""
    image, _ = host.build("absent", OBEDIENT, ["/bin/nothing"])
    enclave = host.start(image)
    record = host.record(enclave)
    assert (record.cause, exit_code(record)) == ("exited", 127)


def test_stopped_and_continued_enclave_goes_on(host: Host) -> None:
    """While its processes are stopped an enclave counts as a failed connection; afterwards it goes on."""
    enclave = host.start(host.image)
    assert host.order(enclave, "say before") == b"before"
    processes = process_tree(enclave["ProcessID"])
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        silent = host.cli("describe-enclaves", code=39)
        assert silent.stdout.strip() == "[]"
        assert "Failed connections: 1" in silent.stderr
        assert "[ E39 ]" in silent.stderr
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    assert [described["State"] for described in host.describe()] == ["RUNNING"]
    assert host.order(enclave, "say after") == b"after"


def test_ctrl_c_during_the_boot_ends_the_enclave(host: Host) -> None:
    """A command that is stopped before it has printed its JSON leaves no enclave that nobody asked for."""
    command = host.command(*host.run_words(host.image, "--enclave-name", "unwanted"))
    process = subprocess.Popen(
        command, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "Started enclave with" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert output == ""
    wait_until(lambda: find_record(host.logs, "unwanted").is_over)
    record = find_record(host.logs, "unwanted")
    assert record.cause == "terminated"
    assert record.reason == "The command that started it was stopped before it had booted."
    wait_until(lambda: not is_alive(record.process_id))
    assert host.left() == []


def test_supervisor_killed_before_its_enclave_had_a_name_leaves_nothing(host: Host) -> None:
    """Killed at its start a supervisor takes everything along, and whoever looks next removes its place."""
    process = subprocess.Popen(
        host.command(*host.run_words(host.image)),
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = wait_for(lambda: find_supervisor(host.run_directory, process.pid))
    wait_until(lambda: len(process_tree(pid)) > 1)
    processes = process_tree(pid)
    assert len(list(host.run_directory.glob(".[0-9a-f]*"))) == 1
    os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 39
    assert "[ E36 ]" in said
    wait_until(lambda: not any(is_alive(one) for one in processes), 2)
    assert host.describe() == []
    assert host.left() == []


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as ballast, suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


def test_full_disk_stops_neither_enclave_nor_its_end(small_disk: Host) -> None:
    """With a full disk an enclave runs, is described and ends; a new one is refused and leaves nothing."""
    enclave = small_disk.start(small_disk.image, "--debug-mode")
    fill(small_disk.logs / "ballast")
    assert small_disk.order(enclave, "say alive") == b"alive"
    assert [described["State"] for described in small_disk.describe()] == ["RUNNING"]
    refused = small_disk.cli(*small_disk.run_words(small_disk.image), code=39)
    assert "No space left on device" in refused.stderr
    processes = process_tree(enclave["ProcessID"])
    ended = small_disk.cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
    assert json.loads(ended.stdout)["Terminated"] is True
    assert not any(is_alive(pid) for pid in processes)
    assert small_disk.left() == []


def test_read_only_logs_stop_no_enclave(small_disk: Host) -> None:
    """With logs that cannot be written commands say E19, as AWS's; an enclave runs on and its end is told."""
    logs = small_disk.run_directory.parent / "logs"
    enclave = small_disk.start(small_disk.image)
    subprocess.run(["mount", "--bind", logs, logs], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", logs], check=True)
    try:
        assert "[ E19 ]" in small_disk.cli("describe-enclaves", code=19).stderr
        assert small_disk.order(enclave, "say alive") == b"alive"
    finally:
        subprocess.run(["umount", logs], check=True)
    for path in sorted(logs.rglob("*"), reverse=True):  # and then they are gone altogether
        path.rmdir() if path.is_dir() else path.unlink()
    logs.rmdir()
    assert small_disk.order(enclave, "say alive") == b"alive"
    small_disk.order(enclave, "exit 7")
    assert exit_code(small_disk.record(enclave)) == 7
