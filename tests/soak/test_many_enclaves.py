"""Many enclaves, one after another and all at once: they run, talk and end, and nothing of them is left."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cloister.demo.leftovers import find_leftovers, observe
from cloister.flight import list_records
from simulators.nitro_host import OBEDIENT, NitroHost

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

CYCLES = int(os.environ.get("CLOISTER_SOAK_CYCLES", "200"))
CROWD = int(os.environ.get("CLOISTER_SOAK_CROWD", "16"))
KEPT = 100


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> NitroHost:
    """Make a user of nitro-cli."""
    return NitroHost.make(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def image(host: NitroHost) -> Path:
    """Build an image whose program answers."""
    built, _ = host.build("obedient", OBEDIENT, ["/bin/obedient"])
    return built


def files_of(directory: Path) -> int:
    """Count what is in a directory."""
    return sum(1 for _ in directory.rglob("*"))


def end_all(host: NitroHost, enclaves: list[dict[str, Any]]) -> None:
    """End enclaves and look whether anything of them is left: processes, sockets, groups, memory files."""
    ids = [enclave["EnclaveID"] for enclave in enclaves]
    traces = observe([enclave["ProcessID"] for enclave in enclaves], ids)
    ended = json.loads(host.cli("terminate-enclave", "--all").stdout)
    assert sorted(enclave["EnclaveID"] for enclave in ended) == sorted(ids)
    assert host.describe() == []
    left = find_leftovers(traces, run=host.run_directory, scratch=[])
    assert not any(left.values()), left
    assert host.left() == []


def test_one_after_another(host: NitroHost, image: Path) -> None:
    """200 of 200 run, talk and end; their records are kept up to a hundred, and no file beyond."""
    files = 0
    for number in range(1, CYCLES + 1):
        enclave = host.start(image)
        assert host.order(enclave, f"say {number}") == str(number).encode()
        end_all(host, [enclave])
        if number == 1:
            files = files_of(host.run_directory)
        assert files_of(host.run_directory) == files
        assert len(list_records(host.logs)) == min(number, KEPT)
        print(f"\r{number} of {CYCLES} ran, talked and ended", end="", flush=True)
    print()


@pytest.mark.parametrize("crowd", sorted({2, 4, CROWD}))
def test_all_at_once(host: NitroHost, image: Path, crowd: int) -> None:
    """Enclaves started at the same time all run, under names and CIDs of their own, and are all described."""
    started = [
        subprocess.Popen(
            host.command(*host.run_words(image)),
            env=host.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(crowd)
    ]
    enclaves = [json.loads(process.communicate(timeout=300)[0]) for process in started]
    names = {"obedient", *(f"obedient_{number}" for number in range(1, crowd))}
    assert {enclave["EnclaveName"] for enclave in enclaves} == names
    assert len({enclave["EnclaveCID"] for enclave in enclaves}) == crowd
    begin = time.monotonic()
    assert len(host.describe()) == crowd
    print(f"\ndescribe-enclaves with {crowd}: {time.monotonic() - begin:.2f} s")
    for enclave in enclaves:
        assert host.order(enclave, "say here") == b"here"
    end_all(host, enclaves)
