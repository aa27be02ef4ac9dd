"""The test host as a machine: the jail's QEMU, emulating AMD's SVM, on this host's own files.

Run without the jail: the machine is ours, and it has to read what its root shares with it. The processor is
emulated even where /dev/kvm works, so that every host tests the same thing.
"""

import subprocess
import threading
from pathlib import Path

from cloister.vmm import Jail
from kvm_host.kernel import HostKernel

MEMORY_MIB = 4096
MACHINE = [
    "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
    "-run-with", "exit-with-parent=on",
    "-M", "q35,usb=off,graphics=off,smm=off",
    "-bios", "qboot.rom",  # the microvm's firmware starts a kernel on this board too
    "-accel", "tcg,thread=multi",
    "-cpu", "max,+svm,+npt",
    "-smp", "4",
    "-m", f"{MEMORY_MIB}M",
    "-serial", "stdio",
]  # fmt: skip
KERNEL_PARAMETERS = "console=ttyS0 panic=-1 reboot=t quiet loglevel=4 mitigations=off audit=0 apparmor=0"


def command_line(jail: Jail, kernel: HostKernel, exchange: Path) -> list[str]:
    """Return QEMU's argument vector; the shell script ``start`` in ``exchange`` is the host's init."""
    root = jail.directory
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = [str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    return [
        *loader, str(root / "usr/bin/qemu-system-x86_64"),
        "-L", str(root / "usr/share/qemu"),
        *MACHINE,
        "-kernel", str(kernel.kernel),
        "-initrd", str(kernel.initramfs),
        "-append", KERNEL_PARAMETERS,
        *_share("host", Path("/"), "readonly=on,multidevs=remap"),
        *_share("exchange", exchange, "writeout=immediate"),
    ]  # fmt: skip


def _share(name: str, path: Path, options: str) -> list[str]:
    words = ["-fsdev", f"local,id={name},path={path},security_model=none,{options}"]
    return [*words, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]


def run_to_the_end(words: list[str], *, seconds: float) -> None:
    """Run the machine, printing its console, until it ends or ``seconds`` have passed, and leave nothing."""
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as machine:
        assert machine.stdout is not None
        limit = threading.Timer(seconds, machine.kill)
        limit.start()
        try:
            for line in machine.stdout:
                print(line.decode(errors="replace").rstrip(), flush=True)
        finally:
            limit.cancel()
            machine.kill()
