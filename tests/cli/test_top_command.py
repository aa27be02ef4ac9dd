"""``cloister top``: processes as ``/proc`` shows them."""

import json

import pytest

from cloister.cli.top import rows
from cloister.places import Places
from cloister.running import Usage
from simulators.enclave_process import enclave_process
from simulators.enclave_records import Cloister

BUSY = Usage("web", "i-1-enca1", 16, 151.6, (100.0, 50.4), 27 << 20, 256 << 20, 30 << 20, 70 << 20)


def test_rows_are_for_people() -> None:
    """Sizes in MiB, percents without fractions, each vCPU by itself."""
    assert rows([BUSY]) == [["web", "16", "152", "100 50", "27 of 256 MiB", "30 MiB", "70 MiB"]]


def test_json_is_in_bytes() -> None:
    """Programs get bytes, and nitro-cli's names."""
    shown = BUSY.to_json()
    assert (shown["EnclaveID"], shown["GuestMemoryUsed"], shown["CPUPercent"]) == (
        "i-1-enca1",
        27 << 20,
        151.6,
    )


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_nothing_runs(cloister: Cloister, words: tuple[str, ...]) -> None:
    """Without enclaves there is a header alone, or an empty list."""
    code, printed, _ = cloister("top", "--once", "--interval", "0.01", *words)
    assert code == 0
    assert json.loads(printed) == [] if words else printed.split()[:2] == ["NAME", "CID"]


def test_process_without_a_machine_is_left_out(host: Places, cloister: Cloister) -> None:
    """An enclave that has no guest memory (yet, or any more) is not measured."""
    with enclave_process(host, "web"):
        assert json.loads(cloister("top", "--once", "--json", "--interval", "0.01")[1]) == []


@pytest.mark.parametrize("interval", ["0", "-1", "soon", "1e3"])
def test_bad_interval(cloister: Cloister, interval: str) -> None:
    """What is no number of seconds is refused."""
    assert cloister("top", "--interval", interval)[0] == 2
