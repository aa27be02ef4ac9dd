"""Which CPUs become the pool, on hosts of every shape."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.resources import AllocatorError, Reservation
from cloister.resources.plan import plan_pools
from cloister.resources.topology import parse_cpu_list, read_topology

SMT = [(0, 4), (1, 5), (2, 6), (3, 7)]


def test_cpu_lists_are_the_kernels() -> None:
    """Ids and ranges are read as the kernel writes them; anything else is refused."""
    assert parse_cpu_list("2,3,6-9\n") == (2, 3, 6, 7, 8, 9)
    for text in ("", "2,,3", "3-2", "a", "1-2-3", "-1", "99999"):
        with pytest.raises(ValueError, match="is no"):
            parse_cpu_list(text)


def test_pool_is_made_of_full_cores_without_cpu_0(make_sysfs: Callable[..., Path]) -> None:
    """Siblings come together, and the core of CPU 0 stays with the host."""
    (plan,) = plan_pools(Reservation(64, 4), read_topology(make_sysfs(SMT)), relaxed=False)
    assert plan.cores == ((1, 5), (2, 6))
    assert plan.relaxed == ()


def test_every_node_that_has_enough_is_a_candidate(make_sysfs: Callable[..., Path]) -> None:
    """A pool is on one node; the nodes that would do come in order, for memory to decide."""
    topology = read_topology(make_sysfs([(0,), (1,), (2,)], [(3,), (4,), (5,)]))
    assert [plan.cpus for plan in plan_pools(Reservation(64, 2), topology, relaxed=False)] == [(1, 2), (3, 4)]
    assert [plan.node for plan in plan_pools(Reservation(64, 3), topology, relaxed=False)] == [1]


def test_only_usable_cpus_count(make_sysfs: Callable[..., Path]) -> None:
    """A core of which this process may not use all is not a full one."""
    topology = read_topology(make_sysfs(SMT), usable={0, 4, 1, 2, 6})
    (plan,) = plan_pools(Reservation(64, 2), topology, relaxed=False)
    assert plan.cpus == (2, 6)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Reservation(64, 9), "Provided CPU count is higher than available CPUs - 8."),
        (Reservation(64, 3), "The CPU count is not multiple of 2 (threads per core)."),
        (
            Reservation(64, 8),
            "Failed to find suitable CPUs for the Nitro Enclaves CPU pool after checking all NUMA nodes.",
        ),
        (
            Reservation(64, None, "0,4"),
            "CPU 0 and its siblings belong to the host, the pool has CPU(s) [0, 4].",
        ),
        (
            Reservation(64, None, "1"),
            "a pool has full cores, this one CPU(s) [1] of the core [1, 5].",
        ),
        (Reservation(64, None, "1,5,8"), "CPU(s) [8] are not online here."),
    ],
)
def test_a_rule_that_cannot_be_kept_is_named(
    make_sysfs: Callable[..., Path], wanted: Reservation, message: str
) -> None:
    """Each rule refuses with its own text."""
    with pytest.raises(AllocatorError) as refused:
        plan_pools(wanted, read_topology(make_sysfs(SMT)), relaxed=False)
    assert refused.value.message.removeprefix("Failed to configure the CPU pool: ") == message


def test_relaxed_pool_breaks_what_it_must_and_says_so(make_sysfs: Callable[..., Path]) -> None:
    """On two cores a pool of two has CPU 0 in it; one of one has not, and breaks nothing."""
    topology = read_topology(make_sysfs([(0,), (1,)]))
    (plan,) = plan_pools(Reservation(64, 2), topology, relaxed=True)
    assert plan.cpus == (0, 1)
    assert plan.relaxed == ("CPU 0 and its siblings belong to the host, the pool has CPU(s) [0]",)
    (plan,) = plan_pools(Reservation(64, 1), topology, relaxed=True)
    assert (plan.cpus, plan.relaxed) == ((1,), ())


def test_relaxed_pool_takes_a_sibling_of_cpu_0_before_cpu_0(make_sysfs: Callable[..., Path]) -> None:
    """One core with two threads: a pool of one is the thread that is not CPU 0; two rules are broken."""
    (plan,) = plan_pools(Reservation(64, 1), read_topology(make_sysfs([(0, 1)])), relaxed=True)
    assert plan.cpus == (1,)
    assert len(plan.relaxed) == 2


def test_given_pool_over_two_nodes_is_relaxed_only(make_sysfs: Callable[..., Path]) -> None:
    """A list of CPUs may not cross nodes, unless the pool is relaxed."""
    topology = read_topology(make_sysfs([(0,), (1,)], [(2,), (3,)]))
    with pytest.raises(AllocatorError, match="one NUMA node"):
        plan_pools(Reservation(64, None, "1-3"), topology, relaxed=False)
    (plan,) = plan_pools(Reservation(64, None, "1-3"), topology, relaxed=True)
    assert plan.cores == ((1,), (2,), (3,))
    assert plan.relaxed == ("a pool is on one NUMA node, this one on [0, 1]",)
