"""What run-enclave asks for, and what can be said about it before anything is started.

Order of checks and texts: nitro-tools 1.8 and 1.9. On a host without an allocator's CPU pool the mode is
"relaxed": CPUs come from those this process may use, shared with everything else, and the caller is told.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.control import EnclaveFailure

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
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EnclaveFailure(
            "E19",
            f"File operation failure. The EIF could not be opened: {reason}."
            f"\nFile: '{path}', failing operation: 'Open'.",
            action="Open EIF file",
        ) from None
    return handle


def choose_cpus(request: RunRequest, pool: Collection[int]) -> tuple[int, ...]:
    """Return the CPU ids the enclave gets, from the highest down; raises EnclaveFailure E20, E21, E22."""
    if request.cpu_ids is not None:
        return _check_ids(request.cpu_ids, pool)
    count = request.cpu_count or 0
    if count > len(pool):
        raise EnclaveFailure(
            "E22",
            f"Insufficient CPUs available in the pool. User provided `cpu-count` is {count}, which is more "
            f"than the configured CPU pool size.\nYou can increase the CPU pool size by editing the "
            f"`cpu_count` value from '{ALLOCATOR}' and then enable the nitro-enclaves-allocator.service.",
            action="Check CPUs",
        )
    return tuple(sorted(sorted(pool, reverse=True)[:count]))


def _check_ids(ids: Sequence[int], pool: Collection[int]) -> tuple[int, ...]:
    twice = sorted({cpu for cpu in ids if ids.count(cpu) > 1})
    if twice:
        raise EnclaveFailure(
            "E20",
            f"Invalid CPU configuration. User provided `cpu-ids` contains same CPU(s) (CPU(s) {twice}) "
            "multiple times.",
            action="Check CPUs",
        )
    absent = sorted(set(ids) - set(pool))
    if absent:
        raise EnclaveFailure(
            "E21",
            f"No such CPU available in the pool. User provided `cpu-ids` contains CPU(s) {absent}, which are "
            f"not available in the pool; it has {sorted(pool)}.",
            action="Check CPUs",
        )
    return tuple(ids)


def check_memory(memory_mib: int, image_size: int) -> None:
    """Apply nitro-cli's rule; raises EnclaveFailure E26."""
    least = -(-image_size * MEMORY_PER_IMAGE // MIB)
    beginning = f"Insufficient memory requested. User provided `memory` is {memory_mib} MB"
    if memory_mib == 0:
        raise EnclaveFailure(
            "E26", f"{beginning}, and memory should be greater than 0 MB.", action="Check memory"
        )
    if memory_mib < least:
        raise EnclaveFailure(
            "E26",
            f"{beginning}, but based on the EIF file size, the minimum memory should be {least} MB",
            action=f"At least {least} MB must be allocated (which is 4 times the EIF file size)",
        )


def check_available(memory_mib: int, meminfo: str) -> None:
    """Compare with what ``/proc/meminfo`` says is available; raises EnclaveFailure E27."""
    for line in meminfo.splitlines():
        key, _, value = line.partition(":")
        if key == "MemAvailable" and memory_mib * 1024 > int(value.split()[0]):
            raise EnclaveFailure(
                "E27",
                f"Insufficient memory available. User provided `memory` is {memory_mib} MB, which is more "
                f"than the available memory.\nYou can increase the available memory by editing the "
                f"`memory_mib` value from '{ALLOCATOR}' and then restart the "
                "nitro-enclaves-allocator.service.",
                action="Allocate memory",
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


def boot_seconds(image_size: int, memory_mib: int) -> int:
    """Return how long an enclave may take until its heartbeat (nitro-tools 6.2)."""
    images = max(image_size - 1, 0) // (6 << 30)
    memories = max((memory_mib << 20) - 1, 0) // (100 << 30)
    return 90 * (1 + images) + 90 * (1 + memories)
