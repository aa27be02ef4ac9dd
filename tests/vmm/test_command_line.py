"""The argument vectors of QEMU and of its jail."""

import pytest

from cloister.vmm import MachineConfig, MachineError, command_line, jail_command_line

SHARED = "mem-merge=off,dump-guest-core=off,memory-backend=ram"
MACHINE = f"microvm,acpi=off,pcie=off,rtc=on,usb=off,graphics=off,{SHARED}"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def config(**changes: int | str | None) -> MachineConfig:
    fields: dict[str, object] = {
        "cpus": 2, "memory_mib": 512, "accelerator": "tcg", "cmdline": "reboot=k console=ttyS0",
        "memory_fd": 4, "kernel_fd": 5, "initrd_fd": 6, "vsock_fd": 7, "nsm_fd": 8,
    }  # fmt: skip
    return MachineConfig(**(fields | changes))  # type: ignore[arg-type] # the test names real fields


def test_production_machine() -> None:
    """A production machine has two vhost-user devices and a UART that goes nowhere."""
    assert command_line(config()) == [
        "/usr/bin/qemu-system-x86_64", "-name", "enclave,debug-threads=on",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", MACHINE,
        "-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm,-fzrm,-fsrs,-fsrc", "-smp", "2",
        "-m", "512M",
        "-object",
        "memory-backend-file,id=ram,size=512M,mem-path=/proc/self/fd/4,share=on,merge=off,dump=off",
        "-kernel", "/proc/self/fd/5", "-initrd", "/proc/self/fd/6",
        "-append", "reboot=k console=ttyS0 reboot=t",
        "-chardev", "socket,id=vsock,fd=7", "-device", "vhost-user-vsock-device,chardev=vsock",
        "-chardev", "socket,id=nsm,fd=8",
        "-device", "vhost-user-test-device,chardev=nsm,virtio-id=33,num_vqs=1,vq_size=2,config_size=0",
        "-serial", "null",
        "-sandbox", SANDBOX,
    ]  # fmt: skip


def test_debug_machine_differs_by_its_console_alone() -> None:
    """Debug mode changes where the UART goes and nothing else."""
    production, debug = command_line(config()), command_line(config(console_fd=9))
    place = production.index("-serial")
    assert debug[:place] == production[:place]
    assert debug[place:] == [
        "-add-fd", "fd=9,set=2", "-chardev", "file,id=console,path=/dev/fdset/2,append=on",
        "-serial", "chardev:console", "-sandbox", SANDBOX,
    ]  # fmt: skip


def test_kvm_arrives_as_a_descriptor() -> None:
    """With KVM the device is handed over open, so the jail needs no device node."""
    words = command_line(config(accelerator="kvm", kvm_fd=10))
    place = words.index("-accel")
    assert words[place - 2 : place + 4] == [
        "-add-fd", "fd=10,set=1", "-accel", "kvm,device=/dev/fdset/1", "-cpu", "host",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cpus": 0}, "at least 1 vCPU; got 0"),
        ({"memory_mib": 63}, "at least 64 MiB; got 63"),
        ({"accelerator": "kvm"}, "open KVM device"),
        ({"kvm_fd": 3}, "open KVM device"),
    ],
)
def test_impossible_machine_is_refused(changes: dict[str, int | str], says: str) -> None:
    """A machine that cannot be is refused when it is described, with the value that is wrong."""
    with pytest.raises(MachineError, match=says):
        config(**changes)


def test_aarch64_machine() -> None:
    """A production machine of aarch64 has as many transports as devices, and a console that is none."""
    assert command_line(config(architecture="aarch64", cmdline="panic=-1")) == [
        "/usr/bin/qemu-system-aarch64", "-name", "enclave,debug-threads=on",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-M", f"virt,acpi=off,gic-version=max,its=off,usb=off,graphics=off,{SHARED},virtio-mmio-transports=2",
        "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
        "-m", "512M",
        "-object",
        "memory-backend-file,id=ram,size=512M,mem-path=/proc/self/fd/4,share=on,merge=off,dump=off",
        "-kernel", "/proc/self/fd/5", "-initrd", "/proc/self/fd/6",
        "-append", "panic=-1 console=tty0",
        "-global", "virtio-mmio.force-legacy=false",
        "-chardev", "socket,id=vsock,fd=7", "-device", "vhost-user-vsock-device,chardev=vsock",
        "-chardev", "socket,id=nsm,fd=8",
        "-device", "vhost-user-test-device,chardev=nsm,virtio-id=33,num_vqs=1,vq_size=2,config_size=0",
        "-serial", "null",
        "-sandbox", SANDBOX,
    ]  # fmt: skip


def test_aarch64_debug_machine_has_a_virtio_console() -> None:
    """Debug mode adds one device and names it to the kernel, after what is measured."""
    words = command_line(config(architecture="aarch64", cmdline="reboot=k console=ttyS0", console_fd=9))
    assert words[words.index("-append") + 1] == "reboot=k console=ttyS0 console=hvc0"
    assert words[words.index("-M") + 1].endswith(",virtio-mmio-transports=3")
    assert words[words.index("-add-fd") :] == [
        "-add-fd", "fd=9,set=2", "-chardev", "file,id=console,path=/dev/fdset/2,append=on",
        "-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=console",
        "-serial", "null", "-sandbox", SANDBOX,
    ]  # fmt: skip


def test_jail_shares_nothing() -> None:
    """The jail has a read-only root, no capability, no device node, a filter and namespaces of its own."""
    assert jail_command_line("/somewhere/jail", seccomp_fd=7) == [
        "bwrap", "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534",
        "--hostname", "enclave",
        "--ro-bind", "/somewhere/jail", "/", "--proc", "/proc", "--remount-ro", "/proc",
        "--cap-drop", "ALL", "--seccomp", "7", "--new-session",
        "--die-with-parent", "--as-pid-1", "--clearenv", "--",
    ]  # fmt: skip
