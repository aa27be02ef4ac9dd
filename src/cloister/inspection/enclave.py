"""An enclave is three processes: the supervisor, bubblewrap, QEMU; found by who is whose child."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cloister.inspection.finding import Finding
from cloister.inspection.machine import inspect_machine
from cloister.inspection.monitor import inspect_monitor
from cloister.inspection.process import InspectionError, Process
from cloister.inspection.supervisor import inspect_supervisor

Role = Literal["supervisor", "bubblewrap", "QEMU"]
MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """One process and what was found of it."""

    role: Role
    pid: int
    findings: tuple[Finding, ...]


def machine_of(supervisor: Process) -> list[Process]:
    """Return the processes below a supervisor, QEMU last; raises InspectionError when there is none."""
    chain: list[Process] = []
    below = supervisor.children()
    while below and len(chain) < MAX_DEPTH:
        chain.append(Process(below[0]))
        below = chain[-1].children()
    if not chain:
        supervisor.text("status")  # gone is another reason
        raise InspectionError(f"Process {supervisor.pid} has no machine below it.")
    return chain


def inspect_enclave(pid: int, *, cpu_ids: Sequence[int] | None = None) -> list[Subject]:
    """Look at everything below the supervisor with this process id, and at itself; raises InspectionError."""
    supervisor = Process(pid)
    *monitors, machine = machine_of(supervisor)
    between = [Subject("bubblewrap", one.pid, tuple(inspect_monitor(one))) for one in monitors]
    return [
        Subject("supervisor", pid, tuple(inspect_supervisor(supervisor))),
        *between,
        Subject("QEMU", machine.pid, tuple(inspect_machine(machine, supervisor, cpu_ids=cpu_ids))),
    ]
