"""The system calls that nothing in the jail may make: a BPF program for ``bwrap --seccomp``; pure.

QEMU's own filter begins when QEMU asks for it and leaves sockets alone; this one is there before its first
instruction. Refused is what leads out of the jail or deep into the host's kernel: new sockets (AF_VSOCK and
AF_ALG know no namespaces), io_uring (whose requests no filter sees), tracing, mounts, namespaces, keys, BPF.
Format: Linux's seccomp(2) and Documentation/userspace-api/seccomp_filter.rst.
"""

import struct
from typing import Final

from cloister.vmm.config import MachineError

_EVERYWHERE: Final = {
    "pidfd_open": 434, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
}  # fmt: skip
REFUSED: Final = {
    "x86_64": _EVERYWHERE | {
        "socket": 41, "connect": 42, "bind": 49, "listen": 50, "ptrace": 101, "syslog": 103,
        "pivot_root": 155, "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165,
        "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "iopl": 172,
        "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179, "clock_settime": 227,
        "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
        "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
        "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": _EVERYWHERE | {
        "socket": 198, "connect": 203, "bind": 200, "listen": 201, "ptrace": 117, "syslog": 116,
        "pivot_root": 41, "adjtimex": 171, "chroot": 51, "acct": 89, "settimeofday": 170, "mount": 40,
        "umount2": 39, "swapon": 224, "swapoff": 225, "reboot": 142, "sethostname": 161, "init_module": 105,
        "delete_module": 106, "quotactl": 60, "clock_settime": 112, "kexec_load": 104, "add_key": 217,
        "request_key": 218, "keyctl": 219, "unshare": 97, "perf_event_open": 241, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
        "kcmp": 272, "finit_module": 273, "kexec_file_load": 294, "bpf": 280, "userfaultfd": 282,
    },
}  # fmt: skip
"""System call numbers by architecture, of Linux's unistd headers."""
CLONE: Final = {"x86_64": 56, "aarch64": 220}
CLONE3: Final = 435
_AUDIT_ARCH: Final = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_NEW_NAMESPACES: Final = 0x7E02_0080  # every CLONE_NEW* flag
_X32: Final = 0x4000_0000  # the other numbering of x86_64
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF_0000, 0x8000_0000, 0x0005_0001, 0x0005_0026


def seccomp_filter(architecture: str) -> bytes:
    """Return the program for this host's architecture; raises MachineError for one it does not know."""
    if architecture not in REFUSED:
        raise MachineError(
            f"The jail has no system call filter for {architecture}; expected x86_64 or aarch64."
        )
    checks = [_AT_LEAST, _X32], *([_EQUAL, number] for number in sorted(REFUSED[architecture].values()))
    refuse = len(checks)
    program = [
        _step(_LOAD, _ARCH),
        _step(_EQUAL, _AUDIT_ARCH[architecture], yes=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_EQUAL, CLONE3, no=1),
        _step(_RETURN, _ENOSYS),  # its flags lie in memory, out of a filter's sight; the C library uses clone
        _step(_EQUAL, CLONE[architecture], no=4),
        _step(_LOAD, _ARGUMENT),
        _step(_ANY_BIT, _NEW_NAMESPACES, no=1),
        _step(_RETURN, _EPERM),
        _step(_RETURN, _ALLOW),
        *(_step(kind, value, yes=refuse - place) for place, (kind, value) in enumerate(checks)),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _EPERM),
    ]
    return b"".join(program)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One struct sock_filter: code, jumps taken when it is so and when it is not, value."""
    return struct.pack("<HBBI", code, yes, no, value)
