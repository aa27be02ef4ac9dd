"""QEMU, the process that a hostile guest may have taken over: everything it could still reach."""

import os
import stat
from collections import Counter
from collections.abc import Sequence
from typing import Final

from cloister.inspection.finding import Finding, judge
from cloister.inspection.memory import inspect_guest_memory
from cloister.inspection.peers import unix_peers
from cloister.inspection.process import NAMESPACES, InspectionError, Process

SETS: Final = {
    "Eff": "effective",
    "Prm": "permitted",
    "Inh": "inheritable",
    "Bnd": "bounding",
    "Amb": "ambient",
}
HARMLESS: Final = frozenset(
    {"/dev/null", "/dev/kvm", "pipe", "eventfd", "eventpoll", "signalfd", "timerfd", "io_uring"}
    | {
        "memfd kernel",
        "memfd initrd",
        "memfd guest-memory",
        "kvm-vm",
        "kvm-vcpu",
        "kvm-vm-stats",
        "kvm-vcpu-stats",
    }
)
"""What QEMU may hold open beside its devices' sockets."""
NETWORK_FILES: Final = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "unix")
_SECCOMP: Final = {"0": "off", "1": "strict", "2": "filter"}


def inspect_machine(
    machine: Process, supervisor: Process, *, cpu_ids: Sequence[int] | None = None
) -> list[Finding]:
    """Look at QEMU; ``cpu_ids`` are those its vCPUs should be on. Raises InspectionError."""
    return [
        _user(machine, supervisor),
        *(_namespace(machine, supervisor, kind) for kind in NAMESPACES),
        judge("time namespace", f"{machine.namespace('time')}; it only shifts clocks, none is asked for"),
        _network(machine),
        _root(machine, supervisor),
        _mounts(machine),
        _device_files(machine),
        *inspect_privileges(machine),
        _seccomp(machine),
        _descriptors(machine),
        _sockets(machine, supervisor),
        *inspect_guest_memory(machine),
        _processors(machine, cpu_ids),
        inspect_children(machine, 0),
        _end(machine, supervisor),
    ]


def _user(machine: Process, supervisor: Process) -> Finding:
    status = machine.status
    rows = [line.split() for line in machine.text("uid_map").splitlines()]
    mapping = ", ".join(f"{inside} inside is {outside} ({count})" for inside, outside, count in rows)
    groups = status.get("Groups", "").split()
    could_drop = supervisor.uid == 0  # an ordinary user's process keeps its groups
    return judge(
        "user",
        f"uid {status['Uid'].split()[1]}, gid {status['Gid'].split()[1]}, "
        f"{' '.join(groups) or 'no'} further groups; {mapping or 'no user namespace mapping'}",
        "it runs as root" if machine.uid == 0 else None,
        "it has root's further groups" if groups and could_drop else None,
        "its user namespace maps more than one user" if sum(int(row[2]) for row in rows) != 1 else None,
    )


def _namespace(machine: Process, supervisor: Process, kind: str) -> Finding:
    its, theirs = machine.namespace(kind), supervisor.namespace(kind)
    hosts = {theirs, Process(os.getpid()).namespace(kind)}
    own = its not in hosts
    return judge(
        f"{kind} namespace",
        f"{its}, " + ("its own" if own else "the host's"),
        None if own else "it is shared with the host",
    )


def _network(machine: Process) -> Finding:
    interfaces = [row.partition(":")[0].strip() for row in machine.text("net/dev").splitlines()[2:]]
    routes = len(machine.text("net/route").splitlines()[1:])
    sockets = {name: _rows(machine, f"net/{name}") for name in NETWORK_FILES}
    open_ones = ", ".join(f"{count} {name}" for name, count in sockets.items() if count)
    return judge(
        "network",
        f"interfaces {', '.join(interfaces) or 'none'}; {routes} routes; sockets: {open_ones or 'none'}",
        "it has an interface other than loopback" if set(interfaces) - {"lo"} else None,
        "it has routes" if routes else None,
        "there are sockets in its network namespace" if open_ones else None,
    )


def _rows(machine: Process, name: str) -> int:
    try:
        return max(0, len(machine.text(name).splitlines()) - 1)
    except InspectionError:
        machine.text("status")  # it lives: this kernel does not have that protocol
        return 0


def _root(machine: Process, supervisor: Process) -> Finding:
    def identity(process: Process) -> tuple[int, int]:
        found = process.stat("root/")
        return found.st_dev, found.st_ino

    whole = identity(machine) == identity(supervisor)
    names = machine.names("root/")
    return judge(
        "root directory",
        ("the supervisor's" if whole else "its own") + f", holding {', '.join(names)}",
        "the host's files are reachable" if whole else None,
    )


def _mounts(machine: Process) -> Finding:
    mounts = machine.mounts()
    told = ", ".join(
        f"{one.point} ({one.kind}, {'ro' if 'ro' in one.options else 'rw'})" for one in mounts[:8]
    )
    more = f" and {len(mounts) - 8} more" if len(mounts) > 8 else ""
    writable = [one.point for one in mounts if "ro" not in one.options]
    whole = [one.point for one in mounts if one.source == "/" and one.kind not in ("proc", "tmpfs")]
    return judge(
        "mounts",
        told + more,
        f"it may write to {', '.join(writable[:4])}" if writable else None,
        f"whole file systems are mounted: {', '.join(whole[:4])}" if whole else None,
        "another process's /proc could be seen" if _foreign_proc(machine) else None,
    )


def _foreign_proc(machine: Process) -> bool:
    """Whether more processes than its own are in its /proc."""
    return sum(name.isdigit() for name in machine.names("root/proc")) > 1


def _device_files(machine: Process) -> Finding:
    names = machine.names("root/dev")
    found = [name for name in names if _is_device(machine, f"root/dev/{name}")]
    return judge(
        "device files",
        ", ".join(found[:8]) or "none",
        "it may open devices by name" if found else None,
    )


def _is_device(machine: Process, name: str) -> bool:
    mode = machine.stat(name, follow=False).st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def inspect_privileges(process: Process, *, bounding: bool = True) -> list[Finding]:
    """Look at capabilities and at the way to more of them."""
    found = []
    for kind, name in SETS.items():
        held = process.capabilities(kind)
        excused = kind == "Bnd" and not bounding
        note = " (nothing can be gained from it: no new privileges)" if excused and held else ""
        found.append(
            judge(
                f"{name} capabilities",
                f"{held:#x}{note}" if held else "none",
                "it has capabilities" if held and not excused else None,
            )
        )
    gains = any(status.get("NoNewPrivs") != "1" for status in process.statuses())
    measured = "not set" if gains else "set"
    return [
        *found,
        judge("no new privileges", measured, "it may gain privileges by execve" if gains else None),
    ]


def _seccomp(machine: Process) -> Finding:
    found = sorted({(one.get("Seccomp", "0"), one.get("Seccomp_filters", "?")) for one in machine.statuses()})
    return judge(
        "seccomp",
        "; ".join(f"{_SECCOMP.get(mode, mode)}, {filters} filters" for mode, filters in found),
        None if all(mode == "2" for mode, _ in found) else "any system call may be made",
    )


def inspect_children(process: Process, most: int) -> Finding:
    """Look at who was started by a process: what is not in the chain to QEMU is not looked at further."""
    children = process.children()
    return judge(
        "children",
        ", ".join(map(str, children)) or "none",
        f"more than {most}: nothing is known of the others" if len(children) > most else None,
    )


def _descriptors(machine: Process) -> Finding:
    kinds = Counter(one.kind for one in machine.descriptors())
    others = sorted(set(kinds) - HARMLESS - {"socket"})
    return judge(
        "open files",
        ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        f"unexpected: {', '.join(others[:5])}" if others else None,
    )


def _sockets(machine: Process, supervisor: Process) -> Finding:
    inodes = [one.inode for one in machine.descriptors() if one.kind == "socket"]
    peers = unix_peers()
    if peers is None:
        return judge("sockets", f"{len(inodes)}", "this kernel does not tell who is at their other ends")
    supervisors = {one.inode for one in supervisor.descriptors() if one.kind == "socket"}
    strange = [inode for inode in inodes if inode is not None and peers.get(inode) not in supervisors]
    return judge(
        "sockets",
        f"{len(inodes)}, of which {len(inodes) - len(strange)} lead to the supervisor and nowhere else",
        "some lead elsewhere" if strange else None,
    )


def _processors(machine: Process, cpu_ids: Sequence[int] | None) -> Finding:
    allowed = {}
    for status in machine.statuses():
        if status["Name"].startswith("CPU "):
            allowed[status["Name"]] = status["Cpus_allowed_list"]
    group = [row.partition("::")[2] for row in machine.text("cgroup").splitlines() if row.startswith("0::")]
    told = ", ".join(f"{name} on {where}" for name, where in sorted(allowed.items()))
    outside = cpu_ids is not None and not all(expand(where) <= set(cpu_ids) for where in allowed.values())
    return judge(
        "processors",
        f"{told or 'no vCPU thread'}; cgroup {group[0] if group else 'v1 only'}",
        None if allowed else "it is not a machine that runs",
        f"a vCPU may leave its processors {list(cpu_ids or ())}" if outside else None,
        "its supervisor does not say which are its own" if cpu_ids is None else None,
    )


def expand(ranges: str) -> set[int]:
    """Return the numbers of a list such as ``0-2,5`` (cpuset(7))."""
    numbers: set[int] = set()
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def _end(machine: Process, supervisor: Process) -> Finding:
    chain: list[int] = []
    pid = machine.parent
    while pid > 1 and len(chain) < 4:
        chain.append(pid)
        if pid == supervisor.pid:
            break
        pid = Process(pid).parent
    first = machine.status.get("NSpid", "").split()[-1:] == ["1"]
    return judge(
        "its end",
        f"child of {' of '.join(map(str, chain)) or pid}; "
        f"{'the first process' if first else 'not the first process'} of its PID namespace",
        None if chain[-1:] == [supervisor.pid] else "it is no descendant of its supervisor",
        None if first else "what it starts may outlive it",
    )
