"""Which CPUs become the pool; decided from a topology alone.

The rules are the Nitro driver's (nitro-tools 6.1, 6.3): full cores, never CPU 0 or its siblings, one NUMA
node. A relaxed pool may break them, and says which.
"""

from collections.abc import Collection
from dataclasses import dataclass

from cloister.resources.config import AllocatorError, Reservation, RuleError
from cloister.resources.topology import Topology, parse_cpu_list


@dataclass(frozen=True, slots=True)
class CpuPlan:
    """One possible pool."""

    cores: tuple[tuple[int, ...], ...]
    """CPU ids, those of a core together."""
    node: int
    relaxed: tuple[str, ...] = ()
    """The rules it breaks, one sentence each."""

    @property
    def cpus(self) -> tuple[int, ...]:
        """Every CPU of the pool, ascending."""
        return tuple(sorted(cpu for core in self.cores for cpu in core))


def plan_pools(wanted: Reservation, topology: Topology, *, relaxed: bool) -> list[CpuPlan]:
    """Return the pools that would do, best first, at least one; raises AllocatorError."""
    if wanted.cpu_pool is not None:
        return [_plan_given(wanted.cpu_pool, topology, relaxed=relaxed)]
    count = wanted.cpu_count or 0
    available = len(topology.cpus)
    if count > available:
        raise AllocatorError(f"Provided CPU count is higher than available CPUs - {available}.")
    threads = topology.threads_per_core
    if count % threads and not relaxed:
        raise RuleError(f"The CPU count is not multiple of {threads} (threads per core).")
    plans = [plan for node in topology.nodes if (plan := _plan_node(count, topology, node)) is not None]
    if plans:
        return plans
    if not relaxed:
        raise RuleError(
            "Failed to find suitable CPUs for the Nitro Enclaves CPU pool after checking all NUMA nodes."
        )
    return [_plan_any(count, topology)]


def _plan_node(count: int, topology: Topology, node: int) -> CpuPlan | None:
    threads = topology.threads_per_core
    if count % threads:
        return None
    whole = [core.cpus for core in topology.cores if core.node == node and len(core.cpus) == threads]
    chosen = [cpus for cpus in whole if 0 not in cpus][: count // threads]
    return CpuPlan(tuple(chosen), node) if len(chosen) * threads == count else None


def _plan_any(count: int, topology: Topology) -> CpuPlan:
    """Take what is there: CPU 0's core last, whole cores and one node first."""
    threads = topology.threads_per_core
    ranked = sorted(topology.cores, key=lambda core: (0 in core.cpus, len(core.cpus) < threads, core.node))
    # CPU 0 itself is the last to be taken of its core
    cpus = [cpu for core in ranked for cpu in sorted(core.cpus, key=lambda cpu: (cpu == 0, cpu))][:count]
    return _described(cpus, topology)


def _plan_given(text: str, topology: Topology, *, relaxed: bool) -> CpuPlan:
    try:
        cpus = parse_cpu_list(text)
    except ValueError as error:
        raise AllocatorError(f"Failed to configure the CPU pool: {error}.") from None
    absent = sorted(set(cpus) - set(topology.cpus))
    if absent:
        raise AllocatorError(f"Failed to configure the CPU pool: CPU(s) {absent} are not online here.")
    plan = _described(cpus, topology)
    if plan.relaxed and not relaxed:
        raise RuleError(f"Failed to configure the CPU pool: {plan.relaxed[0]}.")
    return plan


def _described(cpus: Collection[int], topology: Topology) -> CpuPlan:
    cores = tuple(
        taken for core in topology.cores if (taken := tuple(cpu for cpu in core.cpus if cpu in set(cpus)))
    )
    nodes = sorted({topology.core_of(cpu).node for cpu in cpus})
    return CpuPlan(cores, nodes[0], tuple(_broken_rules(cpus, topology, nodes)))


def _broken_rules(cpus: Collection[int], topology: Topology, nodes: list[int]) -> list[str]:
    broken = []
    if 0 in topology.cpus:
        reserved = sorted(set(topology.core_of(0).cpus) & set(cpus))
        if reserved:
            broken.append(f"CPU 0 and its siblings belong to the host, the pool has CPU(s) {reserved}")
    threads = topology.threads_per_core
    for core in topology.cores:
        taken = [cpu for cpu in core.cpus if cpu in set(cpus)]
        if taken and len(taken) < threads:
            broken.append(f"a pool has full cores, this one CPU(s) {taken} of the core {list(core.cpus)}")
    if len(nodes) > 1:
        broken.append(f"a pool is on one NUMA node, this one on {nodes}")
    return broken
