"""What run-enclave asks for, and what can be said about it before anything is started.

Order of checks and texts: nitro-tools 1.8 and 1.9. First what the pool cannot give to anybody and what the
image needs; what other enclaves have left is found out when the supervisor claims it.
"""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.control import EnclaveFailure
from cloister.resources import CpusTakenError, MemoryShortError, ResourceClaim, Wish, claim_resources

MIB: Final = 1 << 20
MEMORY_PER_IMAGE: Final = 4
"""Memory must be at least this many times the image (nitro-tools 6.2)."""
ALLOCATOR: Final = "/etc/nitro_enclaves/allocator.yaml"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run-enclave; either ``cpu_ids`` or ``cpu_count``."""

    eif_path: Path
    memory_mib: int
    cpu_ids: tuple[int, ...] | None = None
    cpu_count: int | None = None
    cid: int | None = None
    debug: bool = False
    name: str | None = None
    role_arn: str | None = None
    """What PCR3 is made of, instead of the host's role."""
    document_map: str | None = None
    """How the enclave's documents are encoded, instead of the host's way."""

    @property
    def wanted_name(self) -> str:
        """The name asked for, or the file's without ``.eif`` (nitro-tools 1.5)."""
        if self.name is not None:
            return self.name
        name = self.eif_path.name
        while name.endswith(".eif"):
            name = name.removesuffix(".eif")
        return name


def open_image(path: Path) -> int:
    """Open the image and return its descriptor; raises EnclaveFailure E19."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would be waited for
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EnclaveFailure(
            "E19",
            f"File operation failure. The EIF could not be opened: {reason}."
            f"\nFile: '{path}', failing operation: 'Open'.",
            action="Open EIF file",
        ) from None
    return handle


def check_cpus(request: RunRequest, pool: Collection[int]) -> None:
    """Refuse what the pool cannot give to anybody; raises EnclaveFailure E20, E21, E22."""
    if request.cpu_ids is not None:
        _check_ids(request.cpu_ids, pool)
        return
    count = request.cpu_count or 0
    if count > len(pool):
        raise EnclaveFailure(
            "E22",
            f"Insufficient CPUs available in the pool. User provided `cpu-count` is {count}, which is more "
            f"than the configured CPU pool size.\nYou can increase the CPU pool size by editing the "
            f"`cpu_count` value from '{ALLOCATOR}' and then enable the nitro-enclaves-allocator.service.",
            action=f"Insufficient CPUs available (requested {count}, but maximum is {len(pool)})",
        )


def _check_ids(ids: Sequence[int], pool: Collection[int]) -> None:
    twice = sorted(cpu for cpu, times in Counter(ids).items() if times > 1)
    if twice:
        raise EnclaveFailure(
            "E20",
            "Invalid CPU configuration. User provided `cpu-ids` contains same CPU(s) (CPU(s) "
            f"{', '.join(map(str, twice))}) multiple times.",
            action=f"CPU IDs list contains {len(ids) - len(set(ids))} duplicate(s)",
        )
    absent = sorted(set(ids) - set(pool))
    if absent:
        raise EnclaveFailure(
            "E21",
            f"No such CPU available in the pool. User provided `cpu-ids` contains CPU {absent[0]}, which is "
            "not available in the pool.\nYou can add a specific CPU to the CPU pool by editing the "
            f"`cpu_pool` value from '{ALLOCATOR}' and then enable the nitro-enclaves-allocator.service.",
            action=f"The CPU with ID {absent[0]} is not available in the NE CPU pool, only {sorted(pool)}",
        )


def check_memory(memory_mib: int, image_size: int) -> None:
    """Apply nitro-cli's rule, naming 4 times the image in whole MiB as minimum; raises E26."""
    beginning = f"Insufficient memory requested. User provided `memory` is {memory_mib} MB"
    if memory_mib == 0:
        raise EnclaveFailure(
            "E26", f"{beginning}, and memory should be greater than 0 MB.", action="Check memory"
        )
    if memory_mib * MIB < image_size * MEMORY_PER_IMAGE:
        least = -(-image_size // MIB) * MEMORY_PER_IMAGE
        raise EnclaveFailure(
            "E26",
            f"{beginning}, but based on the EIF file size, the minimum memory should be {least} MB",
            action=f"At least {least} MB must be allocated (which is 4 times the EIF file size)",
        )


def claim(request: RunRequest, run: Path) -> ResourceClaim:
    """Claim what was asked for; raises EnclaveFailure E27, E29."""
    wish = Wish(request.memory_mib, request.cpu_ids, request.cpu_count or 0)
    try:
        return claim_resources(run, wish, os.sched_getaffinity(0))
    except MemoryShortError as error:
        raise memory_failure(request.memory_mib, str(error)) from None
    except CpusTakenError as error:
        raise EnclaveFailure("E29", str(error), action="Add vCPU") from None


def memory_failure(memory_mib: int, reason: str) -> EnclaveFailure:
    """Make the failure E27: what nitro-cli says, and below it the reason."""
    return EnclaveFailure(
        "E27",
        f"Insufficient memory available. User provided `memory` is {memory_mib} MB, which is more than the "
        "available hugepage memory.\nYou can increase the available memory by editing the `memory_mib` "
        f"value from '{ALLOCATOR}' and then restart the nitro-enclaves-allocator.service.\n{reason}",
        action="Failed to allocate enclave memory",
    )


def check_startable(request: RunRequest) -> None:
    """Refuse what the hypervisor refuses only at start (nitro-tools 1.8); raises EnclaveFailure E29."""
    if request.cpu_count == 0:
        raise EnclaveFailure(
            "E29", "The enclave cannot start because no vCPUs have been added.", action="Start enclave"
        )
    if request.memory_mib < 64:
        raise EnclaveFailure(
            "E29",
            f"The enclave cannot start because it has {request.memory_mib} MiB of memory; "
            "expected at least 64 MiB.",
            action="Start enclave",
        )


LONGEST_BOOT: Final = 7 * 86400
"""Seconds: a week, where AWS's rule has no end; no clock of ours waits for longer."""


def boot_seconds(image_size: int, memory_mib: int) -> int:
    """Return how long an enclave may take until its heartbeat (nitro-tools 6.2)."""
    images = max(image_size - 1, 0) // (6 << 30)
    memories = max((memory_mib << 20) - 1, 0) // (100 << 30)
    return min(90 * (1 + images) + 90 * (1 + memories), LONGEST_BOOT)
