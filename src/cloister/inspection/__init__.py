"""What is true of a running enclave's processes, as the kernel tells it in /proc.

No configuration is read: a machine that was started wrongly, or by somebody else, is told as it is.
"""

from cloister.inspection.enclave import Role, Subject, inspect_enclave, machine_of
from cloister.inspection.finding import Finding, Verdict
from cloister.inspection.machine import inspect_machine
from cloister.inspection.monitor import inspect_monitor
from cloister.inspection.process import InspectionError, Process
from cloister.inspection.supervisor import inspect_supervisor

__all__ = [
    "Finding",
    "InspectionError",
    "Process",
    "Role",
    "Subject",
    "Verdict",
    "inspect_enclave",
    "inspect_machine",
    "inspect_monitor",
    "inspect_supervisor",
    "machine_of",
]
