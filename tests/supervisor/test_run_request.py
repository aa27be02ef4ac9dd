"""What is checked before an enclave is started."""

from pathlib import Path

import pytest

from cloister.control import EnclaveFailure
from cloister.supervisor import RunRequest
from cloister.supervisor.request import (
    boot_seconds,
    check_available,
    check_memory,
    check_startable,
    choose_cpus,
    open_image,
)

MIB = 1 << 20


def request(**changes: object) -> RunRequest:
    """Make a request for two CPUs and 256 MiB."""
    fields: dict[str, object] = {"eif_path": Path("/a/web.eif.eif"), "memory_mib": 256, "cpu_count": 2}
    return RunRequest(**(fields | changes))  # type: ignore[arg-type] # the test names real fields


def code_of(call: object, *arguments: object) -> str:
    """Return the code with which a check refuses."""
    assert callable(call)
    with pytest.raises(EnclaveFailure) as refused:
        call(*arguments)
    return refused.value.code


def test_name_is_the_files_without_its_suffixes() -> None:
    """An enclave without a name is called after its image, as often as .eif stands there."""
    assert request().wanted_name == "web"
    assert request(name="mine").wanted_name == "mine"


def test_cpus_are_taken_from_the_top_of_the_pool() -> None:
    """A count takes the highest ids, which leaves CPU 0 to the host where it can; ids are taken as given."""
    assert choose_cpus(request(), {0, 1, 2, 3}) == (2, 3)
    assert choose_cpus(request(), {0, 1}) == (0, 1)
    assert choose_cpus(request(cpu_count=None, cpu_ids=(3, 1)), {0, 1, 2, 3}) == (3, 1)
    assert choose_cpus(request(cpu_count=0), {0}) == ()


def test_impossible_cpus_are_refused() -> None:
    """Twice the same CPU is E20, an unknown one E21, too many E22."""
    assert code_of(choose_cpus, request(cpu_count=None, cpu_ids=(1, 1)), {0, 1}) == "E20"
    assert code_of(choose_cpus, request(cpu_count=None, cpu_ids=(7,)), {0, 1}) == "E21"
    assert code_of(choose_cpus, request(cpu_count=3), {0, 1}) == "E22"


@pytest.mark.parametrize(
    ("memory", "size", "fits"),
    [(4, MIB, True), (3, MIB, False), (4, MIB + 1, False), (5, MIB + 1, True), (0, 0, False)],
)
def test_memory_is_four_times_the_image(memory: int, size: int, fits: bool) -> None:
    """Memory of at least four times the image, rounded up to MiB, is enough; none never is."""
    if fits:
        check_memory(memory, size)
    else:
        assert code_of(check_memory, memory, size) == "E26"


def test_memory_must_be_there() -> None:
    """More memory than the host has available is E27."""
    meminfo = "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n"
    check_available(1024, meminfo)
    assert code_of(check_available, 1025, meminfo) == "E27"


def test_hypervisor_refuses_at_start() -> None:
    """No CPU and too little memory pass the earlier checks and are E29 at the start, as on AWS."""
    check_startable(request(memory_mib=64))
    assert code_of(check_startable, request(cpu_count=0)) == "E29"
    assert code_of(check_startable, request(memory_mib=63)) == "E29"


@pytest.mark.parametrize(
    ("image", "memory", "seconds"),
    [(1, 1, 180), (6 << 30, 1, 180), ((6 << 30) + 1, 1, 270), (1, 100 << 10, 180), (1, (100 << 10) + 1, 270)],
)
def test_boot_may_take_longer_for_more(image: int, memory: int, seconds: int) -> None:
    """The time for booting grows with image and memory, in nitro-cli's steps."""
    assert boot_seconds(image, memory) == seconds


def test_absent_image_is_e19(tmp_path: Path) -> None:
    """An image that cannot be opened is E19 and named."""
    with pytest.raises(EnclaveFailure, match="No such file"):
        open_image(tmp_path / "none.eif")
