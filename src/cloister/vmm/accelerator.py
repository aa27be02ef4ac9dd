"""Chooses how machines run on this host, by trying it once and remembering the answer.

Presence proves nothing: a host with /dev/kvm on which no stock kernel boots exists. So the probe boots the
kernel at hand with each accelerator until it looks for the first program, which a kernel that runs does soon.
"""

import contextlib
import json
import os
import re
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from cloister.places import Places, own_architecture
from cloister.vmm.config import Accelerator, MachineConfig, MachineError
from cloister.vmm.jail import UID_BASE, Jail
from cloister.vmm.machine import Machine, open_kvm, spawn_machine
from cloister.vmm.memory import MemoryFile

OVERRIDE: Final = "CLOISTER_ACCEL"
PROBE_SECONDS: Final = 180.0
SILENCE_SECONDS: Final = 60.0
"""A kernel that prints nothing for so long is not slow, it is stuck, even where KVM itself is emulated."""
MAX_REASON: Final = 200
PROBE_MIB: Final = 256
PROBE_CMDLINE: Final = {"x86_64": "console=ttyS0 panic=-1 reboot=t", "aarch64": "panic=-1"}
"""On aarch64 the machine's loader names the console, which is a virtio one."""
PROBE_PROOF: Final = re.compile(rb"as init process|No working init|Unable to mount root")
"""What kernels say when they have come as far as starting the first program."""
MAX_PROBE_OUTPUT: Final = 1 << 20
MAX_KNOWN: Final = 8
"""Answers remembered: one for each jail, kernel of the host and user."""


@dataclass(frozen=True, slots=True)
class Footing:
    """How machines run on this host."""

    accelerator: Accelerator
    own_user: bool
    """Whether each machine runs as a user of its own; only root can give one."""
    refused: str = ""
    """Why nothing better was chosen, where something better was tried."""


def find_footing(
    places: Places, jail: Jail, kernel: Callable[[], int], *, environ: Mapping[str, str]
) -> Footing:
    """Return how to run machines here, from the cache or by probing with this kernel (minutes at most).

    ``kernel`` gives the descriptor of one that can be started; it is asked only for a probe.
    """
    wish = environ.get(OVERRIDE, "")
    if wish not in ("", "kvm", "tcg"):
        raise MachineError(f"{OVERRIDE} is {wish!r}; expected kvm or tcg.")
    if wish == "kvm" and jail.architecture != own_architecture():
        raise MachineError(
            f"{OVERRIDE} is kvm, which here runs {own_architecture()} alone; got {jail.architecture}."
        )
    key = f"{jail.identity} {os.uname().release} {os.geteuid()}"
    cache = places.cache / "accelerator.json"
    known = _read(cache, key)
    if known is None:
        known = probe_footing(jail, kernel())
        _write(cache, key, known)
    return replace(known, accelerator=cast("Accelerator", wish)) if wish else known


def probe_footing(jail: Jail, kernel_fd: int) -> Footing:
    """Find out by use; raises MachineError when no accelerator boots the kernel."""
    # KVM runs the host's own instructions alone
    hardware = jail.architecture == own_architecture() and os.access("/dev/kvm", os.R_OK | os.W_OK)
    candidates: list[Accelerator] = ["kvm", "tcg"] if hardware else ["tcg"]
    users = [UID_BASE, None] if os.geteuid() == 0 else [None]
    complaints: list[str] = []
    for accelerator in candidates:
        for uid in users:
            booted, complaint = _boots(jail, kernel_fd, accelerator, uid)
            if booted:
                return Footing(accelerator, own_user=uid is not None, refused=_first_lines(complaints))
            complaints.append(f"{accelerator}: {complaint or 'the kernel did not boot'}")
            if not complaint or "KVM internal error" in complaint:
                break  # the kernel was started and is slow or stuck, which another user would not change
    raise MachineError(f"No accelerator boots a kernel on this host ({'; '.join(complaints)}).")


def _first_lines(complaints: list[str]) -> str:
    return "; ".join(complaint.splitlines()[0] for complaint in complaints)[:MAX_REASON]


def _boots(jail: Jail, kernel_fd: int, accelerator: Accelerator, uid: int | None) -> tuple[bool, str]:
    ours, theirs = os.pipe()
    empty = os.memfd_create("no-initrd")
    kvm = open_kvm() if accelerator == "kvm" else None
    memory = MemoryFile(PROBE_MIB)
    config = MachineConfig(
        cpus=1,
        memory_mib=PROBE_MIB,
        memory_fd=memory.fd,
        accelerator=accelerator,
        cmdline=PROBE_CMDLINE[jail.architecture],
        kernel_fd=kernel_fd,
        initrd_fd=empty,
        kvm_fd=kvm,
        console_fd=theirs,
        architecture=jail.architecture,
    )
    machine = None
    try:
        os.write(empty, bytes(512))  # QEMU refuses an empty file; the kernel skips zeros
        machine = spawn_machine(config, jail, uid=uid)
        booted = PROBE_PROOF.search(_listen(ours, machine)) is not None
    finally:
        if machine is not None:
            machine.close()
        os.close(ours)
        os.close(theirs)
        os.close(empty)
        memory.close()
        if kvm is not None:
            os.close(kvm)
    return booted, machine.last_words()


def _listen(console: int, machine: Machine) -> bytes:
    deadline = time.monotonic() + PROBE_SECONDS
    patience = time.monotonic() + SILENCE_SECONDS
    heard = bytearray()
    while len(heard) < MAX_PROBE_OUTPUT and time.monotonic() < min(deadline, patience):
        ready, _, _ = select.select([console], [], [], 0.2)
        if ready:
            heard += os.read(console, 65536)
            patience = time.monotonic() + SILENCE_SECONDS
        if PROBE_PROOF.search(heard) or machine.has_ended or machine.is_broken():
            break
    return bytes(heard)


def _read(cache: Path, key: str) -> Footing | None:
    try:
        known = _read_all(cache)[key]
        accelerator = known["accelerator"]
        if accelerator not in ("kvm", "tcg"):
            return None
        return Footing(accelerator, bool(known["own_user"]), str(known.get("refused", "")))
    except (KeyError, TypeError, AttributeError):
        return None


def _read_all(cache: Path) -> dict[str, Any]:
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(cache: Path, key: str, footing: Footing) -> None:
    import tempfile  # noqa: PLC0415 -- needed once per host

    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
        cache.parent.mkdir(parents=True, exist_ok=True)
        fields = _read_all(cache)
        fields.pop(key, None)
        fields = dict([*fields.items()][1 - MAX_KNOWN :])
        fields[key] = asdict(footing)
        with tempfile.TemporaryDirectory(dir=cache.parent, prefix=".accelerator-") as scratch:
            draft = Path(scratch, cache.name)  # a full disk leaves none of it behind
            draft.write_text(json.dumps(fields))
            draft.replace(cache)
