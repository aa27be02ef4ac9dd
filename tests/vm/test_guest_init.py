"""The init of our kit, on our kernel, with our devices: what it promises to programs and supervisors."""

import asyncio
import os
import re
import shutil
import socket
import struct
import subprocess
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cloister.devices import VsockDevice
from cloister.kit import Kit
from cloister.vhost import serve_device
from cloister.vmm import Jail, MachineConfig, MemoryFile, start_machine, unpack_kernel

pytestmark = pytest.mark.vm
BOOT_SECONDS = 60.0

PROGRAM = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv, char **envp)
{
    char cwd[256], host[64];
    struct statvfs tmp;
    struct statfs cgroup;
    gid_t groups[8];
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(80),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), i;
    if (argc > 1 && !strcmp(argv[1], "die")) raise(SIGKILL);
    for (i = 0; i < argc; i++) printf("argument=%s\n", argv[i]);
    for (i = 0; envp[i]; i++) printf("environment=%s\n", envp[i]);
    printf("cwd=%s\n", getcwd(cwd, sizeof cwd));
    gethostname(host, sizeof host);
    printf("hostname=%s\n", host);
    printf("ids=%d:%d\n", getuid(), getgid());
    int n = getgroups(8, groups);
    for (i = 0; i < n; i++) printf("group=%d\n", groups[i]);
    statvfs("/tmp", &tmp);
    printf("tmp-executable=%d\n", !(tmp.f_flag & ST_NOEXEC));
    statfs("/sys/fs/cgroup", &cgroup);
    printf("cgroup=%lx\n", (unsigned long)cgroup.f_type);
    if (getuid() == 0) {
        printf("bind=%d\n", bind(listener, (void *)&here, sizeof here) | listen(listener, 1));
        printf("loopback=%d\n", connect(client, (void *)&here, sizeof here));
    }
    printf("mem=%d kvm=%d pci=%d modules=%d\n", access("/dev/mem", F_OK), access("/dev/kvm", F_OK),
           access("/proc/bus/pci", F_OK), access("/proc/modules", F_OK));
    printf("time=%ld\n", (long)time(NULL));
    printf("files=%d%d%d%d\n", access("/cmd", F_OK), access("/env", F_OK), access("/init", F_OK),
           access("/dev/shm", W_OK));
    fflush(stdout);
    return 7;
}
"""


@dataclass
class Outcome:
    """What was seen of one enclave from outside."""

    console: str = ""
    heartbeats: list[bytes] = field(default_factory=list)
    status: list[bytes] = field(default_factory=list)
    seconds: float = 0.0

    def values(self, name: str) -> list[str]:
        """Return what the program printed as ``name=…``."""
        prefix = f"{name}="
        return [line[len(prefix) :] for line in self.console.splitlines() if line.startswith(prefix)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Compile a static program that prints how it finds the world."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is absent, which compiles the program that looks around")
    directory = tmp_path_factory.mktemp("program")
    (directory / "look.c").write_text(textwrap.dedent(PROGRAM))
    subprocess.run(["gcc", "-O1", "-static", "-o", "look", "look.c"], cwd=directory, check=True, timeout=60)
    return (directory / "look").read_bytes()


def newc(entries: dict[str, bytes | None]) -> bytes:
    """Write a cpio archive; None is a directory."""
    out = bytearray()
    for number, (name, content) in enumerate({**entries, "TRAILER!!!": b""}.items(), 1):
        mode = 0o40755 if content is None else 0o100755
        fields = (number, mode, 0, 0, 1, 0, len(content or b""), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + (content or b"")
        out += bytes(-len(out) % 4)
    return bytes(out)


def ramdisk(kit: Kit, program: bytes, **files: bytes) -> bytes:
    """Lay an image's two ramdisks out as AWS does."""
    root: dict[str, bytes | None] = {"rootfs": None}
    root |= {f"rootfs/{name}": None for name in ("dev", "proc", "sys", "run", "tmp", "bin", "etc")}
    root |= {
        "rootfs/bin/look": program,
        "rootfs/etc/passwd": b"root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:\n",
        "rootfs/etc/group": b"root:x:0:\nusers:x:100:\nclub:x:200:bob,alice\nother:x:201:malice\n",
    }
    return newc({"dev": None, "init": kit.init.read_bytes()}) + newc({**root, **files})


@pytest.fixture
def memory_files() -> Iterator[list[int]]:
    """Descriptors that are closed in the end."""
    descriptors: list[int] = []
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def memory_file(content: bytes, descriptors: list[int]) -> int:
    """Put bytes into a memory file."""
    descriptors.append(os.memfd_create("test"))
    with os.fdopen(os.dup(descriptors[-1]), "wb") as file:
        file.write(content)
    return descriptors[-1]


async def boot(
    kit: Kit, jail: Jail, initrd: bytes, descriptors: list[int], *, answer: bool = True
) -> Outcome:
    """Run one enclave to its end, answering its heartbeat unless told otherwise."""
    outcome = Outcome()
    loop = asyncio.get_running_loop()
    pending: set[asyncio.Task[None]] = set()

    async def serve(port: int, ours: socket.socket) -> None:
        with ours:
            got = await loop.sock_recv(ours, 1024)
            if port == 9000:
                if got:  # an init that fails early connects and says nothing
                    outcome.heartbeats.append(got)
                    await loop.sock_sendall(ours, got)
                return
            while more := await loop.sock_recv(ours, 1024):
                got += more
            outcome.status.append(got)

    def dial(cid: int, port: int) -> socket.socket:
        if cid != 3 or not answer or port not in (9000, 9001):
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        pending.add(asyncio.create_task(serve(port, ours)))
        return theirs

    vsock_ours, vsock_theirs = socket.socketpair()
    console_ours, console_theirs = os.pipe()
    console = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(console), os.fdopen(console_ours, "rb")
    )
    image = kit.kernel.read_bytes()
    guest_memory = MemoryFile(256)
    config = MachineConfig(
        cpus=2, memory_mib=256, accelerator="tcg", cmdline=kit.cmdline,
        memory_fd=guest_memory.fd,
        kernel_fd=memory_file(unpack_kernel(image) or image, descriptors),
        initrd_fd=memory_file(initrd, descriptors),
        vsock_fd=vsock_theirs.fileno(), console_fd=console_theirs,
    )  # fmt: skip
    started = time.monotonic()
    device = asyncio.create_task(serve_device(vsock_ours, VsockDevice(guest_cid=16, dial=dial)))
    async with start_machine(config, jail) as machine, asyncio.timeout(BOOT_SECONDS):
        vsock_theirs.close()
        os.close(console_theirs)
        heard = await console.read()
        await machine.wait()
    guest_memory.close()
    outcome.seconds = time.monotonic() - started
    await asyncio.wait_for(device, 5)
    await asyncio.gather(*pending)
    transport.close()
    outcome.console = heard.decode(errors="replace").replace("\r", "")
    return outcome


def test_program_finds_the_world_that_is_promised(
    kit: Kit, jail: Jail, program: bytes, memory_files: list[int]
) -> None:
    """Arguments, environment, mounts, loopback and time are there, and the wait status reaches the parent."""
    initrd = ramdisk(kit, program, cmd=b"look\none two\n\nlast\n", env=b"PATH=/sbin:/bin\nA=b=c\n")
    seen = asyncio.run(boot(kit, jail, initrd, memory_files))
    assert seen.heartbeats == [b"\xb7"]
    assert seen.values("argument") == ["look", "one two", "", "last"]
    assert seen.values("environment") == ["PATH=/sbin:/bin", "A=b=c", "HOME=/root"]
    assert seen.values("cwd") == ["/"]
    assert seen.values("hostname") == ["enclave"]
    assert seen.values("ids") == ["0:0"]
    assert seen.values("tmp-executable") == ["1"]
    assert seen.values("cgroup") == ["63677270"]
    assert seen.values("loopback") == ["0"]
    assert seen.values("mem") == ["-1 kvm=-1 pci=-1 modules=-1"]
    assert seen.values("files") == ["-1-1-10"]
    assert abs(int(seen.values("time")[0]) - time.time()) < 60
    assert seen.status == [b"EXIT" + struct.pack("<I", 7 << 8)]
    assert "smp: Brought up 1 node, 2 CPUs" in seen.console


def test_user_and_working_directory_of_the_image_are_honoured(
    kit: Kit, jail: Jail, program: bytes, memory_files: list[int]
) -> None:
    """A user by name gets its groups and home; a working directory that is missing is made."""
    initrd = ramdisk(kit, program, cmd=b"look\n", env=b"X=y\n", user=b"alice\n", workdir=b"/srv/app\n")
    seen = asyncio.run(boot(kit, jail, initrd, memory_files))
    assert seen.values("ids") == ["1000:100"]
    assert seen.values("group") == ["200"]
    assert seen.values("cwd") == ["/srv/app"]
    assert seen.values("environment") == ["X=y", "PATH=/sbin:/usr/sbin:/bin:/usr/bin", "HOME=/home/alice"]


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({"cmd": b"look\ndie\n", "env": b""}, 9, "the program was killed by signal 9"),
        ({"cmd": b"missing\n", "env": b""}, 127 << 8, "cannot run missing: no such file or directory"),
        ({"cmd": b"/etc/passwd\n", "env": b""}, 126 << 8, "cannot run /etc/passwd: not an executable format"),
        ({"cmd": b"", "env": b""}, None, "the image names no program: /cmd is empty"),
        ({"cmd": b"look\n"}, None, "missing /env"),
        ({"cmd": b"look\n", "env": b"", "user": b"nobody\n"}, None, "not in /etc/passwd: nobody"),
        ({"cmd": b"look\n", "env": b"", "user": b"0:nogroup\n"}, None, "not in /etc/group: nogroup"),
        ({"cmd": b"look\0x\n", "env": b""}, None, "cannot read /cmd: invalid argument"),
        ({"cmd": b"a\n" * 5000, "env": b""}, None, "more than 4096 lines in /cmd"),
    ],
)
def test_every_failure_says_what_is_wrong(  # noqa: PLR0917 -- fixtures and parameters are given by name
    kit: Kit, jail: Jail, program: bytes, memory_files: list[int],
    files: dict[str, bytes], status: int | None, words: str,
) -> None:  # fmt: skip
    """A readable line on the console, and the parent is told the wait status, or why there is no program."""
    seen = asyncio.run(boot(kit, jail, ramdisk(kit, program, **files), memory_files))
    line = next(line for line in seen.console.splitlines() if words in line)
    reason = re.sub(r" \(errno \d+\)$", "", line.removeprefix("cloister init: "))
    told = b"FAIL" + reason.encode() if status is None else b"EXIT" + struct.pack("<I", status)
    assert seen.status == [told]
    assert "Kernel panic" not in seen.console


def test_silent_parent_ends_the_enclave(
    kit: Kit, jail: Jail, program: bytes, memory_files: list[int]
) -> None:
    """Without a heartbeat's echo nothing is started."""
    initrd = ramdisk(kit, program, cmd=b"look\n", env=b"")
    seen = asyncio.run(boot(kit, jail, initrd, memory_files, answer=False))
    assert "the parent does not answer the heartbeat" in seen.console
    assert not seen.values("argument")


def test_damaged_init_is_a_panic_that_ends_the_machine(
    kit: Kit, jail: Jail, program: bytes, memory_files: list[int]
) -> None:
    """A kernel panic resets the machine at once; nobody waits for a timeout."""
    broken = newc({"dev": None, "init": b"#!/nowhere\n"})
    seen = asyncio.run(boot(kit, jail, broken, memory_files))
    assert "Kernel panic" in seen.console
    assert seen.seconds < 30
