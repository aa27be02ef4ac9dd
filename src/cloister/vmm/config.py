"""What a virtual machine is made of, decided before anything is started."""

from dataclasses import dataclass
from typing import Final, Literal

from cloister.errors import CloisterError

Accelerator = Literal["kvm", "tcg"]
Architecture = Literal["x86_64", "aarch64"]

MIN_MEMORY_MIB: Final = 64
"""The Nitro hypervisor's own minimum (nitro-tools 6.1)."""
NSM_VIRTIO_ID: Final = 33
"""The NSM's virtio device id (nitro-tools 5.1)."""


class MachineError(CloisterError):
    """The virtual machine cannot be started or did not behave."""


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """One virtual machine; file descriptors are those of the process that starts it, and are inherited."""

    cpus: int
    memory_mib: int
    accelerator: Accelerator
    cmdline: str
    """As measured; what the loader adds comes after it."""
    memory_fd: int
    """A memory file of ``memory_mib``, see `MemoryFile`."""
    kernel_fd: int
    initrd_fd: int
    gate_fd: int | None = None
    """The read end of a pipe: QEMU starts, and loads the kernel only when the write end has been closed."""
    vsock_fd: int | None = None
    """Our end of QEMU's vhost-user connection to the vsock device."""
    nsm_fd: int | None = None
    kvm_fd: int | None = None
    """The open KVM device, where that is the accelerator."""
    tsc_khz: int | None = None
    """How fast the time stamp counter runs, where that is known and the guest would have to find it out."""
    lock_memory: bool = False
    """Whether QEMU keeps its memory, the guest's too, out of swap; it needs an unlimited RLIMIT_MEMLOCK."""
    console_fd: int | None = None
    """The write end of a pipe for what the guest prints; None makes the UART a sink that QEMU discards."""
    architecture: Architecture = "x86_64"

    def __post_init__(self) -> None:
        """Refuse what QEMU would refuse later and less clearly."""
        if self.cpus < 1:
            raise MachineError(f"A machine needs at least 1 vCPU; got {self.cpus}.")
        if (self.accelerator == "kvm") != (self.kvm_fd is not None):
            raise MachineError("A machine has an open KVM device exactly when KVM is its accelerator.")
        if self.memory_mib < MIN_MEMORY_MIB:
            raise MachineError(f"A machine needs at least {MIN_MEMORY_MIB} MiB; got {self.memory_mib} MiB.")

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Every descriptor the machine inherits."""
        optional = (self.gate_fd, self.vsock_fd, self.nsm_fd, self.kvm_fd, self.console_fd)
        return (self.memory_fd, self.kernel_fd, self.initrd_fd, *(fd for fd in optional if fd is not None))
