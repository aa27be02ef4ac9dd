"""What the inspection says of processes that are not jailed, of its inputs, and of those it may not see."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cloister.inspection import (
    InspectionError,
    Process,
    inspect_enclave,
    inspect_machine,
    machine_of,
)
from cloister.inspection.machine import expand, inspect_children, inspect_privileges
from cloister.inspection.memory import read_mappings
from cloister.inspection.peers import unix_peers
from cloister.inspection.process import Descriptor

SMAPS = """\
7f1efffff000-7f1f07fff000 rw-s 00000000 00:01 106                        /memfd:guest-memory (deleted)
Size:             131072 kB
KernelPageSize:        4 kB
Rss:               23492 kB
THPeligible:           0
VmFlags: rd wr sh mr mw me ms lo dd
7f1f4e045000-7f1f4e108000 rw-p 00000000 00:00 0
Size:                780 kB
VmFlags: rd wr mr mw me ac mg
"""


@pytest.fixture
def sleeper() -> Iterator[Process]:
    """Start a process that is in no jail."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield Process(process.pid)
    finally:
        process.kill()
        process.wait()


def test_process_without_a_jail_is_weaker_in_every_way(sleeper: Process) -> None:
    """Each thing a jail gives is reported as missing from a process that has none, with the reason."""
    findings = inspect_machine(sleeper, Process(os.getpid()), cpu_ids=[0])
    weak = {finding.subject: finding.why for finding in findings if finding.verdict == "weaker"}
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert weak[f"{kind} namespace"] == "it is shared with the host"
    assert "host's files are reachable" in weak["root directory"]
    assert "it may write to /" in weak["mounts"]
    assert "another process's /proc" in weak["mounts"]
    assert weak["seccomp"] == "any system call may be made"
    assert weak["no new privileges"] == "it may gain privileges by execve"
    assert "maps more than one user" in weak["user"]
    assert "guest memory" in weak
    assert weak["processors"].startswith("it is not a machine")
    if os.geteuid() == 0:
        assert weak["effective capabilities"] == "it has capabilities"
        assert "it runs as root" in weak["user"]


def test_processes_are_found_by_their_parents(sleeper: Process) -> None:
    """The chain below a process ends at the one that has no children."""
    assert sleeper.pid in Process(os.getpid()).children()
    assert sleeper.parent == os.getpid()
    with pytest.raises(InspectionError, match="no machine below"):
        machine_of(sleeper)


def test_mappings_are_read_with_their_flags() -> None:
    """A row of smaps has its name, its sizes and its flags."""
    guest, other = read_mappings(SMAPS)
    assert guest.name.startswith("/memfd:guest-memory")
    assert guest.permissions == "rw-s"
    assert (guest.sizes["Size"], guest.sizes["Rss"]) == (131072, 23492)
    assert {"lo", "dd"} <= guest.flags
    assert "mg" in other.flags


def test_the_other_end_of_a_socket_is_known() -> None:
    """The kernel names each end of a pair as the other's peer."""
    left, right = socket.socketpair()
    with left, right:
        peers = unix_peers()
        inodes = [os.fstat(sock.fileno()).st_ino for sock in (left, right)]
    assert peers is not None
    assert [peers[inodes[0]], peers[inodes[1]]] == [inodes[1], inodes[0]]


@pytest.mark.parametrize(
    ("target", "kind", "inode"),
    [
        ("socket:[61952]", "socket", 61952),
        ("pipe:[7]", "pipe", 7),
        ("/memfd:guest-memory (deleted)", "memfd guest-memory", None),
        ("anon_inode:[eventfd]", "eventfd", None),
        ("anon_inode:kvm-vm", "kvm-vm", None),
        ("anon_inode:kvm-vcpu:0", "kvm-vcpu", None),
        ("/dev/null", "/dev/null", None),
    ],
)
def test_descriptors_have_kinds(target: str, kind: str, inode: int | None) -> None:
    """What an open file is, is told in one word."""
    descriptor = Descriptor(3, target)
    assert (descriptor.kind, descriptor.inode) == (kind, inode)


@pytest.mark.parametrize(("text", "numbers"), [("0-2,5", {0, 1, 2, 5}), ("7", {7}), ("", set())])
def test_lists_of_processors_are_read(text: str, numbers: set[int]) -> None:
    """Ranges and single numbers, as cpuset(7) writes them."""
    assert numbers == expand(text)


def test_weakest_thread_decides() -> None:
    """Privileges are each thread's own: one that may gain more is told, whatever the first may."""
    program = (
        "import ctypes, threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0\n"  # PR_SET_NO_NEW_PRIVS, of this thread
        "print(flush=True)\n"
        "input()\n"
    )
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        assert Process(process.pid).status["NoNewPrivs"] == "1"
        findings = {one.subject: one for one in inspect_privileges(Process(process.pid))}
        process.stdin.write(b"\n")
        process.stdin.close()
    assert findings["no new privileges"].verdict == "weaker"


def test_children_that_nobody_looks_at_are_told(sleeper: Process) -> None:
    """Everything holds only where every process below the supervisor was looked at."""
    assert inspect_children(sleeper, 0).verdict == "ok"
    with subprocess.Popen(["sleep", "60"]) as second:
        crowded = inspect_children(Process(os.getpid()), 1)
        second.kill()
    assert crowded.verdict == "weaker"
    assert str(second.pid) in crowded.measured


def test_process_that_is_gone_is_told_in_a_sentence() -> None:
    """Asking after a dead process is an error, not a finding."""
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(InspectionError, match=f"Process {process.pid} is gone"):
        inspect_enclave(process.pid)


def test_foreign_process_is_told_in_a_sentence() -> None:
    """Somebody who may not read a process's files is told whose right that is."""
    target = os.getpid() if os.geteuid() == 0 else 1
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresuid(65534, 65534, 65534)
            inspect_machine(Process(target), Process(target))
        except InspectionError as error:
            os.write(write, str(error).encode())
        finally:
            os.kill(os.getpid(), signal.SIGKILL)  # nothing of the test runner is to run twice
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    assert "may not be inspected by this user" in told
    assert "only its own user and root" in told
