"""What is checked before an enclave is started."""

import os
import resource
from contextlib import suppress
from pathlib import Path

import pytest

from cloister.control import EnclaveFailure
from cloister.supervisor import RunRequest
from cloister.supervisor.loading import load_image
from cloister.supervisor.request import (
    boot_seconds,
    check_cpus,
    check_memory,
    check_startable,
    memory_failure,
    open_image,
)
from cloister.supervisor.starting import limit_process
from cloister.vmm import MemoryFile

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


def failure_of(request_: RunRequest, pool: set[int]) -> EnclaveFailure:
    """Return how a request for CPUs is refused."""
    with pytest.raises(EnclaveFailure) as refused:
        check_cpus(request_, pool)
    return refused.value


def test_impossible_cpus_are_refused_in_nitro_clis_words() -> None:
    """Twice the same CPU is E20, an unknown one E21, too many E22; the texts are those of nitro-cli."""
    check_cpus(request(cpu_count=None, cpu_ids=(3, 1)), {1, 3})
    check_cpus(request(), {1, 3})
    check_cpus(request(cpu_count=0), set())
    twice = failure_of(request(cpu_count=None, cpu_ids=(1, 3, 1)), {3})
    assert (twice.code, twice.message) == (
        "E20",
        "Invalid CPU configuration. User provided `cpu-ids` contains same CPU(s) (CPU(s) 1) multiple times.",
    )
    absent = failure_of(request(cpu_count=None, cpu_ids=(9, 7, 1)), {0, 1})
    assert absent.code == "E21"
    assert absent.message == (
        "No such CPU available in the pool. User provided `cpu-ids` contains CPU 7, which is not available "
        "in the pool.\nYou can add a specific CPU to the CPU pool by editing the `cpu_pool` value from "
        "'/etc/nitro_enclaves/allocator.yaml' and then enable the nitro-enclaves-allocator.service."
    )
    many = failure_of(request(cpu_count=3), {0, 1})
    assert many.code == "E22"
    assert many.message == (
        "Insufficient CPUs available in the pool. User provided `cpu-count` is 3, which is more than the "
        "configured CPU pool size.\nYou can increase the CPU pool size by editing the `cpu_count` value from "
        "'/etc/nitro_enclaves/allocator.yaml' and then enable the nitro-enclaves-allocator.service."
    )


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


def test_too_little_memory_names_the_minimum() -> None:
    """The minimum told is nitro-cli's: four times the image, in whole MiB."""
    with pytest.raises(EnclaveFailure) as refused:
        check_memory(3, MIB + 1)
    assert refused.value.message == (
        "Insufficient memory requested. User provided `memory` is 3 MB, but based on the EIF file size, the "
        "minimum memory should be 8 MB"
    )


def test_memory_that_is_not_there_is_told_in_nitro_clis_words() -> None:
    """E27 says what nitro-cli says, and below it what is left."""
    failure = memory_failure(3072, "The pool has 512 of its 512 MiB left, not 3072 MiB.")
    assert failure.code == "E27"
    assert failure.message == (
        "Insufficient memory available. User provided `memory` is 3072 MB, which is more than the available "
        "hugepage memory.\nYou can increase the available memory by editing the `memory_mib` value from "
        "'/etc/nitro_enclaves/allocator.yaml' and then restart the nitro-enclaves-allocator.service.\n"
        "The pool has 512 of its 512 MiB left, not 3072 MiB."
    )


def test_hypervisor_refuses_at_start() -> None:
    """No CPU and too little memory pass the earlier checks and are E29 at the start, as on AWS."""
    check_startable(request(memory_mib=64))
    assert code_of(check_startable, request(cpu_count=0)) == "E29"
    assert code_of(check_startable, request(memory_mib=63)) == "E29"


@pytest.mark.parametrize(
    ("image", "memory", "seconds"),
    [
        (1, 1, 180),
        (6 << 30, 1, 180),
        ((6 << 30) + 1, 1, 270),
        (1, 100 << 10, 180),
        (1, (100 << 10) + 1, 270),
        (1, 1 << 50, 7 * 86400),
    ],
)
def test_boot_may_take_longer_for_more(image: int, memory: int, seconds: int) -> None:
    """The time for booting grows with image and memory, in nitro-cli's steps."""
    assert boot_seconds(image, memory) == seconds


def test_absent_image_is_e19(tmp_path: Path) -> None:
    """An image that cannot be opened is E19 and named."""
    with pytest.raises(EnclaveFailure, match="No such file"):
        open_image(tmp_path / "none.eif")


def test_an_image_that_is_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """What is no file of bytes is opened at once, writer or none, and refused when it is read."""
    os.mkfifo(tmp_path / "web.eif")
    handle = open_image(tmp_path / "web.eif")
    assert code_of(load_image, handle) == "E19"
    os.close(handle)


def test_a_long_list_of_cpus_is_checked_at_once() -> None:
    """As many ids as fit into a configuration are compared without comparing each with each."""
    ids = tuple(range(200_000))
    assert failure_of(request(cpu_count=None, cpu_ids=(*ids, 7)), set(ids)).code == "E20"


def test_guest_memory_is_had_whatever_may_be_locked() -> None:
    """A user who may lock some memory gets a larger enclave than that, unlocked, and overwrites it."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = 4 << 30 if hard == resource.RLIM_INFINITY else min(4 << 30, hard)
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            locked = limit_process()
            MemoryFile(5 << 10).close()
            kept = resource.getrlimit(resource.RLIMIT_MEMLOCK) == (limit, limit)
            os._exit(0 if kept and not locked else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
