"""The boot bench's rival: QEMU alone, with all that can be the same, the same."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

MARKER = b"bench: first line of the program"
PATIENCE = 60.0  # seconds


def emulator(jail: Path) -> list[str]:
    """Return the words that start the jail's own QEMU outside of its jail: its loader, its libraries."""
    libraries = ":".join(str(jail / path) for path in ("usr/lib/x86_64-linux-gnu", "usr/lib"))
    loader = jail / "lib64/ld-linux-x86-64.so.2"
    firmware = [word for path in ("usr/share/qemu", "usr/share/seabios") for word in ("-L", str(jail / path))]
    return [str(loader), "--library-path", libraries, str(jail / "usr/bin/qemu-system-x86_64"), *firmware]


def bare_machine(jail: Path, *, memory_mib: int, cpus: int, accel: Sequence[str]) -> list[str]:
    """Return the words of the bare machine."""
    return [
        *emulator(jail),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-M", "microvm,acpi=off,pcie=off,rtc=on,usb=off,graphics=off,memory-backend=ram",
        "-object", f"memory-backend-memfd,id=ram,size={memory_mib}M,share=on",
        "-m", f"{memory_mib}M", "-smp", str(cpus), *accel,
        "-serial", "stdio",
    ]  # fmt: skip


def bare_guest(kernel: Path, initrd: Path, *, cmdline: str) -> list[str]:
    """Return the words that say what the bare machine starts."""
    return ["-kernel", str(kernel), "-initrd", str(initrd), "-append", cmdline]


def initramfs(entries: Sequence[tuple[str, int, bytes]]) -> bytes:
    """Return a newc cpio archive of (name, mode, content); cpio(5), "New ASCII Format"."""
    archive = bytearray()
    for inode, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        for part in (
            b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0",
            content,
        ):
            archive += part + bytes(-(len(archive) + len(part)) % 4)
    return bytes(archive)


def seconds_to_first_line(words: Sequence[str]) -> float:
    """Start a machine and return the seconds until the marker stands on its console."""
    start = time.perf_counter()
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as vm:
        assert vm.stdout is not None
        try:
            seen = b""
            while MARKER not in seen:
                piece = os.read(vm.stdout.fileno(), 65536)
                if not piece or time.perf_counter() - start > PATIENCE:
                    raise RuntimeError(
                        f"the bare machine never reached its program: {seen[-2000:].decode(errors='replace')}"
                    )
                seen += piece
            return time.perf_counter() - start
        finally:
            vm.kill()
