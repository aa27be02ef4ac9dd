"""Everything up to a started QEMU, with as few imports as can be.

QEMU needs a tenth of a second before it speaks to its devices; what can be done in that time is done after.
"""

import ctypes
import fcntl
import os
import resource
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cloister.control import EnclaveFailure
from cloister.eif import SignatureError
from cloister.places import Places
from cloister.resources import ResourceClaim
from cloister.supervisor.loading import LoadedImage, load_image
from cloister.supervisor.request import RunRequest, check_startable, memory_failure
from cloister.vmm import (
    UID_BASE,
    Jail,
    JailMissingError,
    Machine,
    MachineConfig,
    MachineError,
    MemoryFile,
    TickRate,
    find_footing,
    find_jail,
    open_kvm,
    spawn_machine,
)

_PR_SET_CHILD_SUBREAPER: Final = 36
_F_SETPIPE_SZ: Final = 1031
_MCL_ALL_ON_FAULT: Final = 7  # MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT
CONSOLE_PIPE: Final = 1 << 20
"""Bytes the guest may print before it is read; the most that Linux gives to everybody."""
OPEN_FILES: Final = 8192
"""Enough for the vsock device's connections and their sockets."""


@dataclass(frozen=True, slots=True)
class Started:
    """A machine that is coming up, and our ends of its devices."""

    loaded: LoadedImage
    machine: Machine
    vsock: socket.socket
    nsm: socket.socket
    console_fd: int | None
    """The read end of a pipe, in debug mode."""


def limit_process() -> bool:
    """Dump no enclave's memory, have room for its connections, and bury whatever the machine leaves.

    Keeps this process out of swap where that is allowed, and returns whether its machine can be kept out too.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with suppress(ValueError, OSError):  # root may, others where their limit is unlimited already
        resource.setrlimit(resource.RLIMIT_MEMLOCK, endless)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK) == endless
    return _lock_memory(libc) and unlimited  # root may lock its own beyond any limit, its machine not


def _lock_memory(libc: ctypes.CDLL) -> bool:
    """Lock all that this process has and will map, unless a limit could refuse it its guest's memory then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY:  # none at all lets those alone through whom no limit holds
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard))
    try:
        return bool(libc.mlockall(_MCL_ALL_ON_FAULT) == 0)
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))


def load_and_check(request: RunRequest, file_fd: int) -> LoadedImage:
    """Load the image; raises EnclaveFailure E19, E29, E34, E35, E59."""
    loaded = load_image(file_fd)
    check_startable(request)
    if loaded.image.signature is not None:
        from cloister.measure import check_signature, measure  # noqa: PLC0415 -- unsigned images start sooner

        try:
            check_signature(loaded.image, measure(loaded.image), datetime.now(UTC))
        except SignatureError as error:
            raise EnclaveFailure("E59", str(error), action="Check EIF signature") from None
    return loaded


def _console_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    with suppress(OSError):  # then it holds 64 KiB
        fcntl.fcntl(read, _F_SETPIPE_SZ, CONSOLE_PIPE)
    return read, write


def _guest_memory(claim: ResourceClaim) -> MemoryFile:
    """Make the memory on the pages claimed, or on ordinary ones where somebody else has taken those."""
    try:
        if claim.huge_page_kib is not None:
            with suppress(MachineError):
                return MemoryFile(claim.memory_mib, huge_page_kib=claim.huge_page_kib)
        return MemoryFile(claim.memory_mib)
    except MachineError as error:
        raise memory_failure(claim.memory_mib, str(error)) from None


def start(
    request: RunRequest,
    claim: ResourceClaim,
    loaded: LoadedImage,
    places: Places,
    stack: ExitStack,
    *,
    lock_memory: bool,
    ticks: TickRate,
) -> Started:
    """Start the machine; ``stack`` gets what undoes it. Raises EnclaveFailure E19, E27, E29."""
    memory = _guest_memory(claim)
    stack.callback(memory.close)  # after the machine's end: what is undone last was noted first
    pairs = [_device_connection(stack) for _ in range(2)]
    console_read, console_write = _console_pipe() if request.debug else (None, None)
    kvm = None
    try:
        jail = _find_jail(places, loaded)
        footing = find_footing(places, jail, loaded.await_kernel, environ=os.environ)
        kvm = open_kvm() if footing.accelerator == "kvm" else None
        config = MachineConfig(
            cpus=len(claim.cpus),
            memory_mib=claim.memory_mib,
            memory_fd=memory.fd,
            lock_memory=lock_memory,
            tsc_khz=ticks.khz(),
            accelerator=footing.accelerator,
            cmdline=loaded.image.cmdline,
            kernel_fd=loaded.kernel_fd,
            initrd_fd=loaded.initrd_fd,
            gate_fd=loaded.gate_fd,
            vsock_fd=pairs[0][1].fileno(),
            nsm_fd=pairs[1][1].fileno(),
            kvm_fd=kvm,
            console_fd=console_write,
            architecture=jail.architecture,
        )
        machine = _spawn_on(claim, config, jail, own_user=footing.own_user)
    except MachineError as error:
        raise EnclaveFailure("E29", f"The enclave cannot be created. {error}", action="Create VM") from None
    finally:
        for fd in (kvm, console_write, loaded.gate_fd):
            if fd is not None:
                os.close(fd)
    stack.callback(machine.close)
    for _, theirs in pairs:
        theirs.close()
    return Started(loaded, machine, pairs[0][0], pairs[1][0], console_read)


def _find_jail(places: Places, loaded: LoadedImage) -> Jail:
    try:
        return find_jail(places, loaded.image.architecture)
    except JailMissingError as error:
        raise EnclaveFailure(
            "E19", f"File operation failure. {error}\nFile: '{places.jails}', failing operation: 'Open'."
        ) from None


def _device_connection(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    stack.callback(ours.close)
    stack.callback(theirs.close)
    return ours, theirs


def _spawn_on(claim: ResourceClaim, config: MachineConfig, jail: Jail, *, own_user: bool) -> Machine:
    """Start a machine on the enclave's CPUs: in its cgroup where it has one, else by inheritance."""
    uid = UID_BASE + os.getpid() if own_user else None
    if claim.cgroup is not None:
        return spawn_machine(config, jail, uid=uid, cgroup=claim.cgroup)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, claim.cpus)
    except OSError as error:
        raise MachineError(f"CPU(s) {sorted(claim.cpus)} cannot be used here: {error.strerror}.") from None
    try:
        return spawn_machine(config, jail, uid=uid)
    finally:
        os.sched_setaffinity(0, before)
