"""Each vCPU on the CPU it was given: QEMU's threads, found by their names and pinned.

QEMU names the thread of a vCPU ``CPU <n>/TCG`` or ``CPU <n>/KVM`` (``-name …,debug-threads=on``). Its other
threads run where the whole process may.
"""

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cloister.vmm.config import MachineError
from cloister.vmm.machine import Machine

PIN_SECONDS: Final = 30.0
"""How long QEMU may take until the threads of its vCPUs are there."""
LOOK_SECONDS: Final = 0.01
_NAME: Final = re.compile(r"CPU ([0-9]{1,4})/(?:TCG|KVM)")


def processor_threads(pid: int) -> dict[int, int]:
    """Return the thread id of each vCPU that QEMU has by now."""
    threads = {}
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # a thread that has just ended
                match = _NAME.fullmatch((task / "comm").read_text().strip())
                if match is not None:
                    threads[int(match[1])] = int(task.name)
    return threads


async def pin_processors(machine: Machine, cpus: Sequence[int]) -> None:
    """Pin vCPU n to the n-th of ``cpus`` as soon as its thread is there; raises MachineError."""
    import asyncio  # noqa: PLC0415 -- 40 ms that a starting machine need not wait for

    pid = machine.emulator_pid
    if pid is None:  # the machine has ended before it began; whoever waits for it tells
        return
    pinned: set[int] = set()
    deadline = time.monotonic() + PIN_SECONDS
    while len(pinned) < len(cpus) and not machine.has_ended:
        for number, thread in processor_threads(pid).items():
            if number not in pinned and number < len(cpus):
                _pin(thread, cpus[number])
                pinned.add(number)
        if len(pinned) < len(cpus):
            if time.monotonic() > deadline:
                raise MachineError(f"QEMU has {len(pinned)} vCPU threads; expected {len(cpus)}.")
            await asyncio.sleep(LOOK_SECONDS)


def _pin(thread: int, cpu: int) -> None:
    try:
        os.sched_setaffinity(thread, {cpu})
    except ProcessLookupError:
        return
    except OSError as error:
        raise MachineError(f"A vCPU cannot be pinned to CPU {cpu}: {error.strerror}.") from None
