"""A virtual machine: a frozen configuration, QEMU's argument vector in a jail, a running process.

Spec: DESIGN section 2, qemu.md. Knows nothing of enclaves, images or devices' insides.
"""

from cloister.vmm.accelerator import OVERRIDE, Footing, find_footing, probe_footing
from cloister.vmm.command_line import EMULATED_PROCESSOR, command_line
from cloister.vmm.config import MIN_MEMORY_MIB, Accelerator, MachineConfig, MachineError
from cloister.vmm.jail import (
    UID_BASE,
    Jail,
    JailMissingError,
    emulator_path,
    find_jail,
    jail_command_line,
    jail_link,
)
from cloister.vmm.kernel import has_pvh_entry, unpack_kernel
from cloister.vmm.machine import Machine, open_kvm, spawn_machine, start_machine
from cloister.vmm.memory import MemoryFile
from cloister.vmm.pinning import pin_processors, processor_threads
from cloister.vmm.ticks import TickRate

__all__ = [
    "EMULATED_PROCESSOR",
    "MIN_MEMORY_MIB",
    "OVERRIDE",
    "UID_BASE",
    "Accelerator",
    "Footing",
    "Jail",
    "JailMissingError",
    "Machine",
    "MachineConfig",
    "MachineError",
    "MemoryFile",
    "TickRate",
    "command_line",
    "emulator_path",
    "find_footing",
    "find_jail",
    "has_pvh_entry",
    "jail_command_line",
    "jail_link",
    "open_kvm",
    "pin_processors",
    "probe_footing",
    "processor_threads",
    "spawn_machine",
    "start_machine",
    "unpack_kernel",
]
