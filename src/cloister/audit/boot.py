"""Judging what boots: the kernel's format and length, and the command line's words.

Kernel formats: Documentation/arch/x86/boot.rst ("The real-mode kernel header") and Documentation/arch/arm64/
booting.rst; words: Documentation/admin-guide/kernel-parameters.rst.
"""

import re
import struct
from typing import Final

from cloister.audit.findings import Findings

MAX_CMDLINE: Final = 2047
"""Bytes that a kernel keeps (COMMAND_LINE_SIZE less the NUL)."""
_PARAGRAPH: Final = 16
_SECTOR: Final = 512
_DEBUGGERS: Final = re.compile(
    r"(kgdboc|kgdboc_earlycon|kgdbdbgp|kgdbwait|kgdbcon|ekgdboc|kdb|sysrq_always_enabled|rd\.shell|rd\.break"
    r"|systemd\.debug[-_]shell|single|emergency)(=.*)?"
    r"|(init|rdinit)=(\S*/)?(sh|bash|dash|ash|busybox|gdb|gdbserver)"
)
_CONSOLES: Final = re.compile(
    r"(console=(?!ttyS0\b|ttyAMA0\b|null\b|$)|netconsole=|earlyprintk|earlycon|debug$|ignore_loglevel$|loglevel=[78]$"
    r"|initcall_debug$|ftrace_dump_on_oops|printk\.devkmsg=on|no_console_suspend$).*"
)
_SERIAL: Final = re.compile(r"console=(ttyS0|ttyAMA0)(,.*)?")
_FIRST: Final = re.compile(r"(init|rdinit)=.*")
_WEAKER: Final = re.compile(
    r"nokaslr|mitigations=off|nopti|pti=off|nosmep|nosmap|noexec=off|noexec32=off|nospectre_v[12].*|spectre_v2=off"
    r"|spec_store_bypass_disable=off|l1tf=off|mds=off|tsx_async_abort=off|mmio_stale_data=off|retbleed=off"
    r"|spectre_bhi=off|module\.sig_enforce=0|lockdown=none|selinux=0|apparmor=0|init_on_alloc=0|iomem=relaxed"
    r"|rodata=off|kvm\.nx_huge_pages=off|vsyscall=emulate|norandmaps"
)


def judge_kernel(kernel: memoryview, architecture: str, findings: Findings) -> None:
    """Check that a loader of this architecture boots these bytes, and that all of them are the kernel."""
    start = bytes(kernel[:0x260])
    if architecture == "aarch64":
        _judge_arm_image(start, len(kernel), findings)
    elif start[0x1FE:0x200] == b"\x55\xaa" and start[0x202:0x206] == b"HdrS":
        _judge_bzimage(start, len(kernel), findings)
    else:
        findings.add("L201", "kernel", f"It is {_what_it_is(start)}; expected a bzImage.")


def _judge_bzimage(start: bytes, size: int, findings: Findings) -> None:
    """Compare the section's length with ``setup_sects`` and ``syssize`` (boot.rst, offsets 0x1f1, 0x1f4)."""
    if start[0x211] & 1 == 0:
        findings.add("L201", "kernel", "It is a zImage, loaded low; expected a bzImage.")
    (syssize,) = struct.unpack_from("<I", start, 0x1F4)
    announced = ((start[0x1F1] or 4) + 1) * _SECTOR + syssize * _PARAGRAPH
    _compare_length(size, announced, findings)


def _judge_arm_image(start: bytes, size: int, findings: Findings) -> None:
    """Compare with ``image_size``, which counts uninitialised memory too, so only excess can be told."""
    if start[0x38:0x3C] != b"ARM\x64":
        findings.add("L201", "kernel", f"It is {_what_it_is(start)}; expected an arm64 Image.")
        return
    (announced,) = struct.unpack_from("<Q", start, 16)
    if announced and size > announced:
        _compare_length(size, announced, findings)


def _compare_length(size: int, announced: int, findings: Findings) -> None:
    if size > announced:
        findings.add("L202", "kernel", f"{size - announced} bytes follow the kernel's own {announced} bytes.")
    elif announced - size >= _PARAGRAPH:  # the last paragraph need not be whole
        findings.add("L203", "kernel", f"The kernel says it has {announced} bytes; the section has {size}.")


def _what_it_is(start: bytes) -> str:
    if start.startswith(b"\x7fELF"):
        return "an ELF file (vmlinux)"
    if start.startswith(b"\x1f\x8b"):
        return "compressed with gzip"
    if start[0x38:0x3C] == b"ARM\x64":
        return "an arm64 Image"
    if start[0x202:0x206] == b"HdrS":
        return "an x86 kernel"
    return f"no kernel: it starts with {start[:4].hex(' ') or 'nothing'}"


def judge_cmdline(payload: memoryview, findings: Findings) -> None:
    """Look at every word."""
    where = "command line"
    if len(payload) > MAX_CMDLINE:
        findings.add("L204", where, f"It is {len(payload)} bytes long; a kernel keeps {MAX_CMDLINE}.")
    text = bytes(payload[:65536])
    strange = re.search(rb"[^\x20-\x7e]", text)
    if strange is not None:
        findings.add("L204", where, f"There is a byte {strange[0][0]:#04x} at {strange.start()}.")
    for word in text.decode("ascii", "backslashreplace").split():
        shown = word.strip('"')[:100]
        if _DEBUGGERS.fullmatch(shown):
            findings.add("L207", where, shown)
        elif _CONSOLES.fullmatch(shown):
            findings.add("L206", where, shown)
        elif _SERIAL.fullmatch(shown):
            findings.add("L205", where, shown)
        elif _FIRST.fullmatch(shown):
            findings.add("L208", where, shown)
        elif _WEAKER.fullmatch(shown):
            findings.add("L209", where, shown)
