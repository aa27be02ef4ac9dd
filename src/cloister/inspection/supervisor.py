"""The supervisor, which is trusted as the Nitro hypervisor is: what it holds, and what could leak from it."""

from collections import Counter

from cloister.inspection.finding import Finding, judge
from cloister.inspection.machine import inspect_children
from cloister.inspection.memory import inspect_guest_memory
from cloister.inspection.process import Process


def inspect_supervisor(supervisor: Process) -> list[Finding]:
    """Look at a supervisor; raises InspectionError."""
    held = supervisor.capabilities("Eff")
    kinds = Counter(one.kind for one in supervisor.descriptors())
    return [
        judge(
            "user",
            f"uid {supervisor.uid}, effective capabilities {held:#x}" if held else f"uid {supervisor.uid}",
        ),
        inspect_children(supervisor, 1),
        judge("open files", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))),
        *inspect_guest_memory(supervisor),
    ]
