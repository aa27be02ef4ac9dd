"""Bubblewrap, which stays outside of the jail it made to wait for QEMU's end; no guest byte reaches it."""

from collections import Counter
from typing import Final

from cloister.inspection.finding import Finding, judge
from cloister.inspection.machine import inspect_children, inspect_privileges
from cloister.inspection.process import Process

HARMLESS: Final = frozenset({"/dev/null", "pipe", "signalfd", "eventfd"})


def inspect_monitor(monitor: Process) -> list[Finding]:
    """Look at a process between the supervisor and QEMU; raises InspectionError."""
    kinds = Counter(one.kind for one in monitor.descriptors())
    others = sorted(set(kinds) - HARMLESS)
    return [
        judge("user", f"uid {monitor.uid}", "it runs as root" if monitor.uid == 0 else None),
        inspect_children(monitor, 1),
        *inspect_privileges(monitor, bounding=False),
        judge(
            "open files",
            ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
            f"it holds what is QEMU's alone: {', '.join(others[:5])}" if others else None,
        ),
    ]
