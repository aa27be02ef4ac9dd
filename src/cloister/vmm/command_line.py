"""QEMU's argument vector for a machine; pure.

x86_64 is a microvm without ACPI and PCI: devices are virtio-mmio alone, announced by QEMU on the kernel
command line. aarch64 is the smallest virt machine: the same devices, announced in its device tree. What is
appended here, like those announcements, is not measured. Spec: DESIGN section 2; qemu.md A1, A2.
"""

from typing import Final

from cloister.vmm.config import NSM_VIRTIO_ID, Architecture, MachineConfig
from cloister.vmm.jail import emulator_path

SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
RESET_BY_TRIPLE_FAULT: Final = "reboot=t"
"""The microvm has no keyboard controller: with AWS's ``reboot=k`` alone a guest spins 1.5 s before it ends,
and one booted from a bzImage has been seen starting again."""
VIRTIO_CONSOLE: Final = "console=hvc0"
"""The virt machine has no UART that AWS's ``console=ttyS0`` could mean."""
NO_CONSOLE: Final = "console=tty0"
"""AWS's aarch64 kernel has a virtual terminal without a screen: a /dev/console to open, with no device."""
_MEMORY_OPTIONS: Final = "mem-merge=off,dump-guest-core=off,memory-backend=ram"
MACHINES: Final[dict[Architecture, str]] = {
    "x86_64": f"microvm,acpi=off,pcie=off,rtc=on,usb=off,graphics=off,{_MEMORY_OPTIONS}",
    # the newest interrupt controller that the accelerator has, without the part that PCI alone uses
    "aarch64": f"virt,acpi=off,gic-version=max,its=off,usb=off,graphics=off,{_MEMORY_OPTIONS}",
}


EMULATED_PROCESSOR: Final[dict[Architecture, str]] = {
    # Linux and C libraries take "fast string instructions" at their word; emulated, they go byte by byte
    "x86_64": "max,-erms,-fsrm,-fzrm,-fsrs,-fsrc",
    "aarch64": "max",
}
"""Everything that TCG can emulate, but for what only claims to be fast."""


def command_line(config: MachineConfig) -> list[str]:
    """Return QEMU's argument vector, its path within the jail first."""
    return [
        emulator_path(config.architecture),
        "-name", "enclave,debug-threads=on",  # by their names the threads of the vCPUs are found and pinned
        *_gate(config),
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-no-reboot",  # a guest ends by resetting itself
        "-M", MACHINES[config.architecture] + _transports(config),
        *_processors(config),
        "-m", f"{config.memory_mib}M",
        *_memory(config),
        "-kernel", f"/proc/self/fd/{config.kernel_fd}",
        "-initrd", f"/proc/self/fd/{config.initrd_fd}",
        "-append", " ".join([config.cmdline, *_appended(config)]),
        *_devices(config),
        *_console(config),
        "-sandbox", SANDBOX,
    ]  # fmt: skip


def _gate(config: MachineConfig) -> list[str]:
    """Make QEMU wait: it reads a secret to its end before it makes the machine, and this one is a pipe."""
    return (
        [] if config.gate_fd is None else ["-object", f"secret,id=gate,file=/proc/self/fd/{config.gate_fd}"]
    )


def _appended(config: MachineConfig) -> list[str]:
    if config.architecture == "x86_64":
        emulated = config.accelerator == "tcg" and config.tsc_khz is not None
        return [RESET_BY_TRIPLE_FAULT, *([f"tsc_early_khz={config.tsc_khz}"] if emulated else [])]
    return [VIRTIO_CONSOLE if config.console_fd is not None else NO_CONSOLE]


def _transports(config: MachineConfig) -> str:
    """Say how many virtio-mmio transports there are; the microvm tells its guest of those in use alone."""
    if config.architecture == "x86_64":
        return ""
    used = sum(fd is not None for fd in (config.vsock_fd, config.nsm_fd, config.console_fd))
    return f",virtio-mmio-transports={used}"


def _memory(config: MachineConfig) -> list[str]:
    # shared, because the device back ends read and write guest memory, and the supervisor overwrites it
    backend = (
        f"memory-backend-file,id=ram,size={config.memory_mib}M,mem-path=/proc/self/fd/{config.memory_fd}"
    )
    lock = ["-overcommit", "mem-lock=on-fault"] if config.lock_memory else []
    return ["-object", f"{backend},share=on,merge=off,dump=off", *lock]


def _processors(config: MachineConfig) -> list[str]:
    smp = ["-smp", str(config.cpus)]
    if config.kvm_fd is None:
        return ["-accel", "tcg,thread=multi", "-cpu", EMULATED_PROCESSOR[config.architecture], *smp]
    device = ["-add-fd", f"fd={config.kvm_fd},set=1"]
    return [*device, "-accel", "kvm,device=/dev/fdset/1", "-cpu", "host", *smp]  # all that the processor has


def _devices(config: MachineConfig) -> list[str]:
    # the microvm's transports are of virtio 1.0 unasked
    words = [] if config.architecture == "x86_64" else ["-global", "virtio-mmio.force-legacy=false"]
    if config.vsock_fd is not None:
        words += ["-chardev", f"socket,id=vsock,fd={config.vsock_fd}"]
        words += ["-device", "vhost-user-vsock-device,chardev=vsock"]
    if config.nsm_fd is not None:
        nsm = f"virtio-id={NSM_VIRTIO_ID},num_vqs=1,vq_size=2,config_size=0"
        words += ["-chardev", f"socket,id=nsm,fd={config.nsm_fd}"]
        words += ["-device", f"vhost-user-test-device,chardev=nsm,{nsm}"]
    return words


def _console(config: MachineConfig) -> list[str]:
    # AWS's init needs a /dev/console to open, so the UART is there even where nobody may listen
    sink = ["-serial", "null"]
    if config.console_fd is None:
        return sink
    # a pipe keeps a byte in a byte; a socket, which takes hundreds for each, would fill up and lose output
    pipe = ["-add-fd", f"fd={config.console_fd},set=2"]
    pipe += ["-chardev", "file,id=console,path=/dev/fdset/2,append=on"]
    if config.architecture == "x86_64":
        return [*pipe, "-serial", "chardev:console"]
    pipe += ["-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=console"]
    return [*pipe, *sink]
