"""The allocator's work: from a reservation to a pool, and back. Spec: nitro-tools 6.3."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloister.resources.cgroups import CGROUPS, NoPartitionError, make_partition, remove_partition
from cloister.resources.claims import live_claims, locked_claims
from cloister.resources.config import AllocatorError, Reservation
from cloister.resources.huge_pages import NodePages, release_pages, reserve_pages
from cloister.resources.plan import CpuPlan, plan_pools
from cloister.resources.pool import Pool, PoolError, load_pool, remove_pool, save_pool
from cloister.resources.topology import SYSFS, format_cpu_list, read_topology

MEMINFO = Path("/proc/meminfo")
BUSY = (
    "Could not re-online CPUs because there is at least one enclave currently running. Make sure you stop "
    "all enclaves prior to re-starting the nitro-enclaves-allocator.service."
)


@dataclass(frozen=True, slots=True)
class HostView:
    """Where the host shows its CPUs, huge pages, cgroups and memory."""

    sysfs: Path = SYSFS
    cgroups: Path = CGROUPS
    meminfo: Path = MEMINFO

    @property
    def is_this_host(self) -> bool:
        """Whether the CPUs are those that this process may run on."""
        return self.sysfs == SYSFS


def allocate(
    wanted: Reservation, run: Path, host: HostView, say: Callable[[str], None], *, relaxed: bool
) -> Pool:
    """Replace the pool by a new one; raises AllocatorError, PoolError, ClaimError.

    ``relaxed`` lets the pool break the rules for CPUs; what it breaks is in the pool and told.
    """
    with locked_claims(run) as directory:
        _clear(run, host, directory)
        topology = read_topology(host.sysfs, os.sched_getaffinity(0) if host.is_this_host else None)
        if wanted.cpu_count is not None:
            say("Auto-generating the enclave CPU pool by using the CPU count...")
        plans = plan_pools(wanted, topology, relaxed=relaxed)
        plan, pages, notes = _find_memory(wanted, plans, host, say)
        cpus = format_cpu_list(plan.cpus)
        if wanted.cpu_count is not None:
            say(f"Auto-generated the enclave CPU pool: {cpus}.")
        cgroup = None
        try:
            memory = sum(size * count for size, count in pages.items()) // 1024 or wanted.memory_mib
            cgroup = _keep_off(plan, host, notes, many_nodes=len(topology.nodes) > 1)
            pool = Pool(
                plan.cores, plan.node, memory, tuple(pages.items()), plan.relaxed, cgroup, tuple(notes)
            )
            save_pool(run, pool)
        except BaseException:
            if cgroup is not None:
                remove_partition(Path(cgroup))
            release_pages(NodePages(host.sysfs, plan.node), pages)
            raise
        say("Configuring the enclave CPU pool...")
        say("Done.")
    return pool


def clear(run: Path, host: HostView) -> None:
    """Give everything back; raises AllocatorError while an enclave runs."""
    with locked_claims(run) as directory:
        _clear(run, host, directory)


def _clear(run: Path, host: HostView, directory: Path) -> None:
    if live_claims(directory):
        raise AllocatorError(BUSY)
    try:
        pool = load_pool(run)
    except PoolError:  # damaged: what it had is not known any more
        pool = None
    if pool is not None:
        if pool.pages:
            release_pages(NodePages(host.sysfs, pool.node), dict(pool.pages))
        if pool.cgroup is not None:
            remove_partition(Path(pool.cgroup))
    remove_pool(run)


def _find_memory(
    wanted: Reservation, plans: list[CpuPlan], host: HostView, say: Callable[[str], None]
) -> tuple[CpuPlan, dict[int, int], list[str]]:
    """Return the first plan whose node has the huge pages, else the first with ordinary memory."""
    shortage = ""
    for plan in plans:
        if wanted.cpu_count is not None:
            say(f"Will try to reserve {wanted.memory_mib} MB of memory on node {plan.node}.")
        say("Configuring the huge page memory...")
        try:
            pages = reserve_pages(NodePages(host.sysfs, plan.node), wanted.memory_mib, say)
        except AllocatorError as error:
            shortage = error.message
        else:
            say("Done.")
            return plan, pages, []
    available = _available(host.meminfo)
    if wanted.memory_mib > available:
        raise AllocatorError(shortage)
    note = (
        f"No huge pages could be reserved ({shortage.rstrip('.')}): the budget is {wanted.memory_mib} MiB of "
        "ordinary memory, which nothing keeps free."
    )
    return plans[0], {}, [note]


def _available(meminfo: Path) -> int:
    for line in meminfo.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "MemAvailable":
            return int(value.split()[0]) // 1024
    return 0


def _keep_off(plan: CpuPlan, host: HostView, notes: list[str], *, many_nodes: bool) -> str | None:
    """Keep other processes off the CPUs and return the partition's cgroup, or note why not."""
    if plan.relaxed:
        notes.append("A relaxed pool's CPUs are shared, by enclaves and with the host.")
        return None
    try:
        return str(make_partition(host.cgroups, plan.cpus, plan.node if many_nodes else None))
    except NoPartitionError as reason:
        notes.append(f"Other processes are not kept off the pool's CPUs: {reason}.")
        return None
