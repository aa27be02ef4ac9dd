"""The jail's own system call filter: its numbers, its jumps, and what it does to a real process."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from cloister.vmm import MachineError
from cloister.vmm.seccomp import CLONE, CLONE3, REFUSED, seccomp_filter

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
GENERIC = Path("/usr/include/asm-generic/unistd.h")
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50001, 0x50026, 0x80000000
X86_64, I386 = 0xC000003E, 0x40000003


def judge(program: bytes, number: int, *, architecture: int = X86_64, argument: int = 0) -> int:
    """Run the program as the kernel would, on the start of a struct seccomp_data."""
    memory = struct.pack("<IIQQ", number, architecture, 0, argument)
    accumulator = place = 0
    while True:
        code, yes, no, value = struct.unpack_from("<HBBI", program, 8 * place)
        place += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", memory, value)
            case 0x15:
                place += yes if accumulator == value else no
            case 0x35:
                place += yes if accumulator >= value else no
            case 0x45:
                place += yes if accumulator & value else no
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(code)


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_every_refused_call_is_refused_and_others_are_not(architecture: str) -> None:
    """Whatever is in the table gets EPERM; reading, writing, waiting and executing QEMU are allowed."""
    audit = {"x86_64": X86_64, "aarch64": 0xC00000B7}[architecture]
    program = seccomp_filter(architecture)
    refused = set(REFUSED[architecture].values())
    for number in range(500):
        expected = ENOSYS if number == CLONE3 else EPERM if number in refused else ALLOW
        assert judge(program, number, architecture=audit) == expected, number


def test_namespaces_other_numberings_and_other_architectures_are_refused() -> None:
    """Clone makes threads but no namespaces; x32's numbers are refused; 32-bit calls kill."""
    program = seccomp_filter("x86_64")
    assert judge(program, CLONE["x86_64"], argument=0x3D0F00) == ALLOW
    assert judge(program, CLONE["x86_64"], argument=0x10000000) == EPERM
    assert judge(program, 0x40000000 | 1) == EPERM
    assert judge(program, 1, architecture=I386) == KILL


def test_unknown_architecture_is_refused() -> None:
    """Without a table there is no jail."""
    with pytest.raises(MachineError, match="riscv64"):
        seccomp_filter("riscv64")


@pytest.mark.parametrize(("architecture", "header"), [("x86_64", HEADER), ("aarch64", GENERIC)])
def test_numbers_are_those_of_the_kernels_headers(architecture: str, header: Path) -> None:
    """Every number of the table that the installed headers know has the same name there."""
    if not header.exists():
        pytest.skip(f"the kernel's headers are absent: {header}")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE))
    table = REFUSED[architecture] | {"clone": CLONE[architecture], "clone3": CLONE3}
    common = set(table) & set(known)
    assert len(common) > len(table) * 3 // 4
    assert {name: int(known[name]) for name in common} == {name: table[name] for name in common}


def test_kernel_takes_the_filter() -> None:
    """Installed in a process of its own, the filter leaves files alone and refuses a new socket."""
    script = """
import ctypes, os, socket, struct, sys
program = bytes.fromhex(sys.argv[1])
code = ctypes.create_string_buffer(program)
head = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, head, 0, 0) == 0, ctypes.get_errno()
os.close(os.open("/", os.O_RDONLY))
try:
    socket.socket()
except PermissionError:
    print("refused")
"""
    words = [sys.executable, "-c", script, seccomp_filter(os.uname().machine).hex()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "refused\n", done.stderr
