"""Keeping other processes off the pool's CPUs: a cpuset partition of cgroup v2, a cgroup for each enclave.

Follows the kernel's cgroup-v2 document, "Cpuset Interface Files". The partition is a ``root`` one and not
``isolated``: within it the scheduler still balances, which QEMU's own threads need. Hosts without the cpuset
controller in the unified hierarchy (cgroup v1, containers, ordinary users) go without, and say so.
"""

import select
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from cloister.resources.topology import format_cpu_list

CGROUPS: Final = Path("/sys/fs/cgroup")
NAME: Final = "nitro_enclaves"
OVERHEAD_MIB: Final = 1536
"""What QEMU may use beyond the guest's memory: under TCG its translated code alone may take 1 GiB."""
REMOVE_SECONDS: Final = 5.0


class NoPartitionError(Exception):
    """Why this host has no partition; never leaves the room."""


def make_partition(top: Path, cpus: Collection[int], node: int | None) -> Path:
    """Give the CPUs, and memory of one ``node``, to a cgroup of their own; raises NoPartitionError."""
    group = top / NAME
    try:
        controllers = (top / "cgroup.controllers").read_text().split()
    except OSError:
        raise NoPartitionError(f"{top} is not a cgroup v2 hierarchy") from None
    if "cpuset" not in controllers:
        raise NoPartitionError(f"the cgroup v2 hierarchy at {top} has no cpuset controller")
    try:
        group.mkdir()
    except FileExistsError:  # of another run directory, or left by one that is gone
        raise NoPartitionError(f"{group} is another pool's; if there is none, remove it with rmdir") from None
    except OSError as error:
        raise NoPartitionError(f"{group} cannot be made: {error.strerror}") from None
    try:
        _enable(top, controllers)
        (group / "cpuset.cpus").write_text(format_cpu_list(cpus))
        if node is not None:
            (group / "cpuset.mems").write_text(str(node))
        (group / "cpuset.cpus.partition").write_text("root")
        state = (group / "cpuset.cpus.partition").read_text().strip()
        _enable(group, (group / "cgroup.controllers").read_text().split())
    except OSError as error:
        remove_partition(group)
        raise NoPartitionError(f"{group} cannot be set up: {error.strerror}") from None
    if state != "root":  # the kernel adds the reason: "root invalid (...)"
        remove_partition(group)
        raise NoPartitionError(f"the kernel makes {group} no partition: {state}")
    return group


def _enable(group: Path, controllers: Collection[str]) -> None:
    """Hand controllers on to a cgroup's children, one by one: a host may refuse some."""
    wanted = [name for name in ("cpuset", "memory") if name in controllers]
    for name in wanted:
        try:
            (group / "cgroup.subtree_control").write_text(f"+{name}")
        except OSError:
            if name == "cpuset":
                raise


def remove_partition(group: Path) -> None:
    """Give the CPUs back to everybody."""
    with suppress(OSError):
        (group / "cpuset.cpus.partition").write_text("member")
    with suppress(OSError):
        group.rmdir()


def make_enclave_group(partition: Path, name: str, cpus: Collection[int], memory_mib: int) -> Path | None:
    """Make one enclave's cgroup within the pool's; None where this user may not."""
    group = partition / name
    try:
        group.mkdir()
        (group / "cpuset.cpus").write_text(format_cpu_list(cpus))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        return None
    with suppress(OSError):  # without the memory controller there is no limit
        (group / "memory.max").write_text(str((memory_mib + OVERHEAD_MIB) << 20))
        (group / "memory.swap.max").write_text("0")
    return group


def remove_enclave_group(group: Path) -> bool:
    """Kill what is left in an enclave's cgroup and remove it, within 5 s; says whether it is gone."""
    if not group.is_dir():
        return True
    with suppress(OSError):
        (group / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            group.rmdir()
            return True
        except FileNotFoundError:
            return True
        except OSError:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            _await_change(group, left)


def _await_change(group: Path, seconds: float) -> None:
    """Wait until the last process has left: the kernel tells a change of ``populated`` by POLLPRI."""
    try:
        with (group / "cgroup.events").open("rb") as events:
            content = events.read()
            if b"populated 1" in content:
                poll = select.poll()
                poll.register(events, select.POLLPRI)
                poll.poll(min(seconds, 1.0) * 1000)
            else:
                time.sleep(0.01)  # empty, but the kernel still buries
    except OSError:
        time.sleep(0.01)
