"""The main job for real: boot, attest, release a secret to one image, refuse everybody else, leave nothing.

One stage for all tests of this file, as the demo builds it: real commands in processes of their own.
"""

import hmac
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.demo import Story, change_one_byte, follow_console, open_stage, wait_until_gone
from cloister.places import current_places
from cloister.trust import initialise

pytestmark = pytest.mark.vm

Enclave = dict[str, Any]


@pytest.fixture(scope="module")
def transcript() -> list[str]:
    """Keep what the story says."""
    return []


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, transcript: list[str]) -> Iterator[Story]:
    """Build the image, start KMS and proxy, make the key, and run the enclave it was made for."""
    state = tmp_path_factory.mktemp("state")
    places = replace(current_places(), state=state)
    initialise(places.pki, region="us-east-1", instance_id="i-0123456789abcdef0", now=datetime.now(UTC))
    with open_stage(places, os.environ, transcript.append) as story:
        story.build()
        story.make_key()
        story.run_enclave()
        yield story


@pytest.fixture(scope="module")
def enclave(story: Story) -> Enclave:
    """Return the enclave the key was made for."""
    return story.enclaves[0]


def ask(story: Story, enclave: Enclave, *options: str, code: int) -> Any:
    """Ask an enclave for its proof and return its answer."""
    return json.loads(story.session.run(*story.ask(enclave, *options), expect=code).stdout)


def start(story: Story, image: str, *options: str, memory: int = 512) -> Enclave:
    """Run one more enclave."""
    story.start(image, *options, memory=memory)
    return story.enclaves[-1]


def terminate(story: Story, enclave: Enclave) -> None:
    """End an enclave."""
    story.session.run("nitro-cli", "terminate-enclave", "--enclave-id", enclave["EnclaveID"])
    story.enclaves.remove(enclave)


def why(story: Story) -> dict[str, Any]:
    """Return the last record of the decision log."""
    lines = story.session.run("cloister", "kms", "decisions", "--json").stdout.splitlines()
    record: dict[str, Any] = json.loads(lines[-1])
    return record


def failed_conditions(record: dict[str, Any]) -> dict[str, list[str] | None]:
    """Return the condition keys that failed in the statement for the image, each with its actual values."""
    statements = [
        statement
        for decision in record["decisions"]
        for statement in decision["statements"]
        if statement["sid"] == "OnlyThisImageMayDecrypt"
    ]
    assert len(statements) == 1
    return {
        condition["key"]: condition["actual"]
        for condition in statements[0]["conditions"]
        if not condition["matched"]
    }


def test_running_enclave_is_described(story: Story, enclave: Enclave) -> None:
    """describe-enclaves shows the enclave running, with its process and the image's measurements."""
    described = json.loads(story.session.run("nitro-cli", "describe-enclaves").stdout)
    mine = next(item for item in described if item["EnclaveID"] == enclave["EnclaveID"])
    assert mine["State"] == "RUNNING"
    assert mine["Flags"] == "NONE"
    assert mine["MemoryMiB"] == 512
    assert mine["NumberOfCPUs"] == 2
    assert {name: mine["Measurements"][name] for name in story.pcrs} == story.pcrs
    assert Path("/proc", str(mine["ProcessID"])).is_dir()


def test_the_program_says_what_it_is(story: Story, enclave: Enclave) -> None:
    """The in-enclave library answers ``cloister attestation request`` beside the program's own work."""
    words = ("cloister", "attestation", "request", enclave["EnclaveID"], "--image", "secret.eif", "--json")
    told = json.loads(story.session.run(*words).stdout)
    assert {name: told["PCRs"][name] for name in story.pcrs} == story.pcrs


def test_right_image_gets_the_secret_and_proves_it(story: Story, enclave: Enclave) -> None:
    """The proof is HMAC-SHA256 of the challenge under the secret, which is nowhere in the answer."""
    answer = ask(story, enclave, code=0)
    assert story.sealed is not None
    challenge = bytes.fromhex(answer["challenge"])
    assert answer["proof"] == hmac.digest(story.sealed.secret, challenge, "sha256").hex()
    assert set(answer) == {"challenge", "proof"}


def test_two_challenges_have_two_proofs(story: Story, enclave: Enclave) -> None:
    """A proof cannot be replayed for another challenge."""
    assert ask(story, enclave, code=0)["proof"] != ask(story, enclave, code=0)["proof"]


def test_changed_image_is_denied(story: Story) -> None:
    """One byte of the application changed: AWS's text at the client, PCR0 and PCR2 in the decision log."""
    changed = story.build_image(change_one_byte(story.work), "changed.eif")
    assert changed["PCR1"] == story.pcrs["PCR1"]
    enclave = start(story, "changed.eif")
    error = ask(story, enclave, code=1)["error"]
    assert error["code"] == "AccessDeniedException"
    assert "is not authorized to perform: kms:Decrypt" in error["message"]
    assert failed_conditions(why(story)) == {
        f"kms:RecipientAttestation:{name}": [changed[name]] for name in ("PCR0", "PCR2")
    }
    terminate(story, enclave)


def test_debug_mode_is_denied(story: Story) -> None:
    """The right image in debug mode presents zeros for PCR0 to PCR2 and is denied for each of them."""
    enclave = start(story, "secret.eif", "--debug-mode", "--enclave-name", "debugged")
    assert ask(story, enclave, code=1)["error"]["code"] == "AccessDeniedException"
    assert failed_conditions(why(story)) == {
        f"kms:RecipientAttestation:PCR{index}": ["0" * 96] for index in range(3)
    }
    terminate(story, enclave)


def test_call_without_document_is_denied(story: Story, enclave: Enclave) -> None:
    """The right enclave without an attestation document is denied, and the log says what was absent."""
    assert ask(story, enclave, "--without-document", code=1)["error"]["code"] == "AccessDeniedException"
    assert failed_conditions(why(story)) == {
        f"kms:RecipientAttestation:PCR{index}": None for index in range(3)
    }


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff\xff\xff", struct.pack(">I", 5) + b"hello", b"GET / HTTP/1.1\r\n\r\n", b""],
    ids=repr,
)
def test_program_survives_garbage_from_its_parent(story: Story, enclave: Enclave, garbage: bytes) -> None:
    """A connection that brings nonsense is dropped, and the next one is served."""
    program = (
        "import sys; from cloister.transport import open_stream\n"
        "stream = open_stream(int(sys.argv[1]), 5000)\n"
        "stream.sendall(bytes.fromhex(sys.argv[2]))\n"
        "stream.shutdown(1)\n"
        "stream.settimeout(20)\n"
        "sys.exit(len(stream.recv(1000)))\n"
    )
    cid = str(enclave["EnclaveCID"])
    story.session.run("python", "-c", program, cid, garbage.hex())
    assert "proof" in ask(story, enclave, code=0)


def test_console_shows_a_debug_enclave(story: Story) -> None:
    """The console brings the boot log from its start, then the program's own lines."""
    story.build_image("examples/hello", "hello.eif")
    enclave = start(story, "hello.eif", "--debug-mode", memory=128)
    lines = follow_console(story.session.spawn("nitro-cli", "console", "--enclave-id", enclave["EnclaveID"]))
    assert "Linux version" in lines[0]
    assert "[   1] Hello from the enclave side!" in lines
    assert "[   2] Hello from the enclave side!" in lines
    terminate(story, enclave)


def test_production_enclave_has_no_console(story: Story, enclave: Enclave) -> None:
    """An enclave that was not started in debug mode refuses its console with nitro-cli's E44."""
    outcome = story.session.run("nitro-cli", "console", "--enclave-id", enclave["EnclaveID"], expect=44)
    assert "debug" in outcome.stderr


def test_terminating_leaves_nothing(story: Story) -> None:
    """After terminate-enclave --all no process, socket, mount, cgroup, memfd or scratch file is left."""
    start(story, "secret.eif")
    traces = story.observe()
    assert len(traces.processes) > len(story.enclaves)
    assert len(traces.memory_files) >= len(story.enclaves)
    story.session.run("nitro-cli", "terminate-enclave", "--all")
    story.enclaves.clear()
    found = wait_until_gone(traces, story.run_directory, [story.work / "tmp", story.work / "artifacts"])
    assert found == {kind: [] for kind in found}
    assert json.loads(story.session.run("nitro-cli", "describe-enclaves").stdout) == []
    assert list((story.work / "logs").iterdir())
