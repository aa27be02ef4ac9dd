"""Enclaves through nitro-cli: run, describe, watch, end; and what is left when things go wrong."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloister.flight import find_record, read_console
from cloister.measure import Measurements
from cloister.running import exit_code
from simulators.nitro_host import INSTANCE, NitroHost, is_alive, process_tree, wait_until

pytestmark = pytest.mark.vm

HELLO = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; ; i++) {
        printf("Hello from the enclave side! %d\n", i);
        if (argc > 1 && strcmp(argv[1], "exit") == 0) return atoi(argv[2]);
        usleep(200000);
    }
}
"""


@dataclass(frozen=True)
class Host(NitroHost):
    """One user's directories and images."""

    hello: Path
    leaving: Path
    """An image whose program exits with 7."""
    measurements: Measurements

    def console_until(self, text: str, enclave_id: str) -> str:
        """Return what the console command shows from the start, asked again until ``text`` is among it."""
        deadline = time.monotonic() + 120
        while True:
            shown = self.cli("console", "--enclave-id", enclave_id, "--disconnect-timeout", "1").stdout
            if text in shown:
                return shown
            assert time.monotonic() < deadline, shown


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Build two images and a root of trust."""
    host = NitroHost.make(tmp_path_factory.mktemp("host"))
    hello, measurements = host.build("hello", HELLO, ["/bin/hello"])
    leaving, _ = host.build("leaving", HELLO, ["/bin/leaving", "exit", "7"])
    return Host(host.top, host.environment, hello, leaving, measurements)


@pytest.fixture
def host(built: Host) -> Iterator[Host]:
    """Give the host to one test and see that the test leaves nothing on it."""
    try:
        yield built
    finally:
        built.cli("terminate-enclave", "--all")
    assert built.left() == []


def test_debug_enclave_runs_shows_its_console_and_ends_without_trace(host: Host) -> None:
    """A debug enclave boots, is described, shows its output from the start, and is gone when terminated."""
    enclave = host.start(host.hello, "--debug-mode")
    assert list(enclave) == [
        "EnclaveName", "EnclaveID", "ProcessID", "EnclaveCID", "NumberOfCPUs", "CPUIDs", "MemoryMiB",
    ]  # fmt: skip
    (described,) = host.describe()
    assert enclave.items() <= described.items()
    assert described["State"] == "RUNNING"
    assert described["Flags"] == "DEBUG_MODE"
    assert described["Measurements"] == host.measurements.to_json()
    shown = host.console_until("Hello from the enclave side! 0", enclave["EnclaveID"])
    assert "Linux version" in shown
    processes = process_tree(enclave["ProcessID"])
    assert len(processes) == 3, "supervisor, bubblewrap, QEMU"
    ended = host.cli("terminate-enclave", "--enclave-name", "hello")
    assert json.loads(ended.stdout) == {
        "EnclaveName": "hello", "EnclaveID": enclave["EnclaveID"], "Terminated": True,
    }  # fmt: skip
    assert f"Successfully terminated enclave {enclave['EnclaveID']}." in ended.stderr
    assert not [pid for pid in processes if is_alive(pid)]
    assert host.left() == []
    record = find_record(host.logs, enclave["EnclaveID"])
    assert (record.cause, exit_code(record)) == ("terminated", 143)
    assert record.measurements == host.measurements.to_json()
    assert b"Hello from the enclave side! 0" in read_console(record)


def test_production_enclave_has_no_console(host: Host) -> None:
    """Without --debug-mode there is no console socket and console fails with E44."""
    enclave = host.start(host.hello)
    (described,) = host.describe("--metadata")
    assert described["Flags"] == "NONE"
    assert described["ImageName"] == "hello"
    refused = host.cli("console", "--enclave-name", "hello", code=44)
    assert "[ E44 ]" in refused.stderr
    assert "The enclave was not started with the debug flag set" in refused.stderr
    assert not (host.run_directory / f"vsock/0/{enclave['EnclaveCID'] + 10000}").exists()


def test_two_enclaves_at_once(host: Host) -> None:
    """Two enclaves started together get their own names, CIDs and ids; ending one leaves the other."""
    command = host.command(*host.run_words(host.hello))
    started = [
        subprocess.Popen(command, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    first, second = (json.loads(process.communicate(timeout=120)[0]) for process in started)
    assert {first["EnclaveName"], second["EnclaveName"]} == {"hello", "hello_1"}
    assert first["EnclaveCID"] != second["EnclaveCID"]
    host.cli("terminate-enclave", "--enclave-id", first["EnclaveID"])
    assert [enclave["EnclaveID"] for enclave in host.describe()] == [second["EnclaveID"]]
    os.kill(second["ProcessID"], signal.SIGTERM)
    wait_until(lambda: not is_alive(second["ProcessID"]))
    record = find_record(host.logs, second["EnclaveID"])
    assert record.reason == "The supervisor was told to end by SIGTERM."


def test_program_that_ends_ends_its_enclave(host: Host) -> None:
    """When the program exits, the enclave vanishes, its status is in the log, its console is complete."""
    done = host.cli(*host.run_words(host.leaving, "--attach-console"))
    assert "Hello from the enclave side! 0" in done.stdout
    enclave = json.loads(done.stdout[: done.stdout.index("\n}") + 2])
    wait_until(lambda: not is_alive(enclave["ProcessID"]))
    assert host.describe() == []
    record = find_record(host.logs, enclave["EnclaveID"])
    assert record.reason == "The program exited with status 7."
    assert exit_code(record) == 7


@pytest.mark.parametrize(
    ("victim", "cause", "words"),
    [
        ("QEMU", "machine-killed", "QEMU was killed by SIGKILL (9)"),
        ("bubblewrap", "machine-killed", "QEMU's jail, was killed by SIGKILL (9)"),
        ("supervisor", "supervisor-killed", "supervisor was killed"),
    ],
)
def test_killed_process_ends_the_enclave_cleanly(host: Host, victim: str, cause: str, words: str) -> None:
    """Whichever process of an enclave is killed, the others follow, nothing stays, and the record tells."""
    enclave = host.start(host.hello)
    processes = process_tree(enclave["ProcessID"])
    os.kill(processes[["supervisor", "bubblewrap", "QEMU"].index(victim)], signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in processes), 2)
    assert host.describe() == []
    record = find_record(host.logs, enclave["EnclaveID"])
    assert record.cause == cause
    assert record.reason is not None
    assert words in record.reason
    assert record.is_over


def test_enclave_ends_when_its_socket_is_deleted(host: Host) -> None:
    """An enclave that cannot be reached any more ends, as under nitro-cli."""
    enclave = host.start(host.hello)
    processes = process_tree(enclave["ProcessID"])
    slot = enclave["EnclaveID"].partition("-enc")[2]
    (host.run_directory / f"{slot}.sock").unlink()
    wait_until(lambda: not any(is_alive(pid) for pid in processes), 6)
    assert find_record(host.logs, enclave["EnclaveID"]).cause == "socket-removed"


def test_bad_images_are_refused_and_leave_nothing(host: Host, tmp_path: Path) -> None:
    """A truncated, a flipped and an absent image fail with their own code, then 39, and nothing is left."""
    whole = host.hello.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for name, content, code in (("short", whole[:-100], "E35"), ("flipped", bytes(flipped), "E35")):
        image = tmp_path / f"{name}.eif"
        image.write_bytes(content)
        words = ("run-enclave", "--cpu-count", "1", "--memory", "128", "--eif-path", image)
        refused = host.cli(*words, code=39)
        assert f"[ {code} ]" in refused.stderr
        assert "Failed connections: 1" in refused.stderr
        assert refused.stdout == ""
    refused = host.cli(
        "run-enclave", "--cpu-count", "1", "--memory", "128", "--eif-path", tmp_path / "none.eif", code=39
    )
    assert "[ E19 ]" in refused.stderr
    assert host.left() == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--cpu-count", "1", "--memory", "8"), "E26"),
        (("--cpu-count", "1", "--memory", "0"), "E26"),
        (("--cpu-count", "1", "--memory", "32"), "E29"),
        (("--cpu-count", "0", "--memory", "128"), "E29"),
        (("--cpu-count", "4096", "--memory", "128"), "E22"),
        (("--cpu-ids", "0", "0", "--memory", "128"), "E20"),
        (("--cpu-ids", "4095", "--memory", "128"), "E21"),
        (("--cpu-count", "1", "--memory", "64T"), "E27"),
    ],
)
def test_impossible_resources_are_refused(host: Host, words: tuple[str, ...], code: str) -> None:
    """Too little or too much of anything is refused with nitro-cli's code, then 39."""
    refused = host.cli("run-enclave", "--eif-path", host.hello, *words, code=39)
    assert f"[ {code} ]" in refused.stderr
    assert "[ E39 ]" in refused.stderr
    assert host.describe() == []


@pytest.mark.parametrize("variable", ["XDG_STATE_HOME", "XDG_CACHE_HOME"])
def test_host_without_set_up_says_what_to_do(host: Host, tmp_path: Path, variable: str) -> None:
    """Without a jail or a root of trust, run-enclave names the command that makes them."""
    words = ("run-enclave", "--cpu-count", "1", "--memory", "128", "--eif-path", host.hello)
    environment = {variable: str(tmp_path), "CLOISTER_ACCEL": "tcg"}
    refused = host.cli(*words, code=39, **environment)
    assert "[ E19 ]" in refused.stderr
    assert "cloister setup" in refused.stderr
    assert host.left() == []


def test_taken_cid_is_refused(host: Host) -> None:
    """A CID belongs to one enclave at a time."""
    host.start(host.hello, "--enclave-cid", "77")
    refused = host.cli(
        "run-enclave", "--cpu-count", "1", "--memory", "128", "--eif-path", host.hello, "--enclave-cid", "77",
        code=39,
    )  # fmt: skip
    assert "[ E29 ]" in refused.stderr
    assert "CID 77 is in use" in refused.stderr


def test_unknown_enclaves_have_their_codes(host: Host) -> None:
    """An unknown id is E11, an unknown name is E58, for ending and watching alike."""
    for command in ("terminate-enclave", "console"):
        assert "[ E11 ]" in host.cli(command, "--enclave-id", f"{INSTANCE}-enc123", code=11).stderr
        assert "[ E58 ]" in host.cli(command, "--enclave-name", "nobody", code=58).stderr
