"""The kernel command line of each architecture; it is measured.

``reboot=t`` is a triple fault, the one reset that a machine without ACPI and keyboard controller always has;
aarch64 resets through PSCI, unasked. ``random.trust_bootloader=off``: no seed of the host's choosing counts.
``no_timer_check`` and ``tcg_timers`` (guest/tcg_timers.c) spare the kernel measuring what it may know.
"""

from typing import Final

CMDLINE: Final = {
    "x86_64": "reboot=t panic=-1 console=ttyS0 random.trust_bootloader=off no_timer_check tcg_timers",
    "aarch64": "panic=-1 random.trust_bootloader=off",
}
