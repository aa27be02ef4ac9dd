"""Isolation, looked at from three sides: out of the guest, at the jail from outside, out of the jail."""

import json
import os
import re
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloister.inspection import Process, inspect_machine
from cloister.kit import Kit
from cloister.vmm import UID_BASE, Jail, MachineConfig, MemoryFile, spawn_machine
from vm.own_host import OwnHost, compile_guest, own_host, process_tree, wait_until

pytestmark = pytest.mark.vm

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/what-an-enclave-sees.md"
LOOKED = 6000
NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


@pytest.fixture(scope="module")
def host(kit: Kit, jail: Jail, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnHost]:
    """Make a host for these tests."""
    with own_host(tmp_path_factory.mktemp("host")) as made:
        yield made


def look_around(
    host: OwnHost, kit: Kit, word: str, *words: str
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Boot the guest that tells what it sees; return its description and its lines by section."""
    with host.listen(LOOKED) as listener:
        enclave = host.start(host.image(kit, "look_around.c", word), *words)
        told, _ = listener.accept()
        with told:
            told.settimeout(60)
            text = b"".join(iter(lambda: told.recv(65536), b"")).decode()
    sections: dict[str, list[str]] = {}
    for part in text.split("=== ")[1:]:
        name, *lines = part.splitlines()
        sections[name] = lines
    assert "end" in sections
    return enclave, sections


def seen_by(sections: dict[str, list[str]], measured: str) -> set[str]:
    """Say in the reference page's words what a guest saw."""
    seen = {f"virtio {int(lines[0], 16)}" for name, lines in sections.items() if name.endswith("/device")}
    seen |= {"port " + " ".join(line.split(" : ")) for line in sections["/proc/ioports"] if line[0] != " "}
    seen |= {"address " + line.partition(" : ")[2] for line in sections["/proc/iomem"] if line[0] != " "}
    interrupts = (line.split() for line in sections["/proc/interrupts"])
    seen |= {f"interrupt {row[0]} {row[-1]}" for row in interrupts if row[0].rstrip(":").isdigit()}
    seen |= {"character " + " ".join(line.split()) for line in sections["/proc/devices"] if line[:1] == " "}
    seen |= {f"interface {line.partition(':')[0].strip()}" for line in sections["/proc/net/dev"][2:]}
    for name, lines in sections.items():
        kind, _, rest = name.partition("/sys/")[2].partition("/")
        if kind in ("bus", "class") and rest and not rest.endswith("/device") and "hw_random" not in rest:
            seen.add(f"{kind} {rest.removesuffix('/devices')}: {' '.join(sorted(lines))}".rstrip())
    seen.add(f"files {' '.join(sections['/dev'])}")
    seen.add("generator " + sections["/sys/class/misc/hw_random/rng_current"][0])
    seen.add(f"firmware {' '.join(sections['/sys/firmware'])}".rstrip())
    appended = re.sub(
        r"tsc_early_khz=\d+", "tsc_early_khz=…", sections["/proc/cmdline"][0].removeprefix(measured)
    )
    seen.add(f"appended {appended.strip()}")
    return seen


def documented() -> set[str]:
    """Return the lines of the page's list."""
    (block,) = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return set(block.splitlines())


def find_in_memory(pid: int, word: bytes) -> list[str]:
    """Return which mappings of a process hold a word; the guest's own memory is left out."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, permissions, *_ = line.split(maxsplit=5)
            if permissions.startswith("r") and "guest-memory" not in line and "[v" not in line:
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                if word in (memory.read(end - start) or b""):
                    found.append(line)
    return found


def find_in_files(directory: Path, word: bytes) -> list[str]:
    """Return the files below a directory that hold a word."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return [str(path) for path in files if word in path.read_bytes()]


def test_production_guest_sees_what_the_page_lists_and_is_not_heard(host: OwnHost, kit: Kit) -> None:
    """The devices are those documented, no more, no fewer; what is printed anywhere reaches nobody."""
    word = secrets.token_hex(12)
    enclave, sections = look_around(host, kit, word)
    # what the processor's own clock is like decides whether these two are in use
    seen, clock = (
        seen_by(sections, kit.cmdline.strip()),
        {"class ptp:", "class ptp: ptp0", "interrupt 0: timer"},
    )
    assert seen - clock == documented() - clock
    for place in ("/dev/console", "/dev/ttyS0", "/dev/kmsg"):
        assert sections[f"printed to {place}"] == ["yes"]
    assert sections["ports for programs"] == ["no"]
    printed = word[::-1].encode()
    supervisor = Process(enclave["ProcessID"])
    assert find_in_memory(supervisor.pid, printed) == []
    for directory in (host.logs, host.run_directory):
        assert find_in_files(directory, printed) == []
    for descriptor in supervisor.descriptors():
        if descriptor.kind.startswith("memfd") and descriptor.kind != "memfd guest-memory":
            assert printed not in Path(f"/proc/{supervisor.pid}/fd/{descriptor.number}").read_bytes()
    (pipe,) = [one for one in supervisor.descriptors() if one.kind == "pipe"]
    assert pipe.target in [link(f"/proc/{pid}/fd/2") for pid in process_tree(supervisor.pid)[1:]]
    assert not list(host.run_directory.glob("vsock/0/*"))
    host.nitro_cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
    assert find_in_files(host.logs, printed) == []


def test_debug_guest_is_heard(host: OwnHost, kit: Kit) -> None:
    """The same search finds the same words in debug mode, in the memory and on the console."""
    word = secrets.token_hex(12)
    enclave, _ = look_around(host, kit, word, "--debug-mode")
    printed = word[::-1]
    wait_until(lambda: bool(find_in_memory(enclave["ProcessID"], printed.encode())))
    shown = host.nitro_cli("console", "--enclave-id", enclave["EnclaveID"], "--disconnect-timeout", "1")
    for place in ("/dev/console", "/dev/ttyS0"):
        assert f"{printed} to {place}" in shown
    host.nitro_cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])


def test_inspect_tells_what_is_so(host: OwnHost, kit: Kit) -> None:
    """Each claim of `cloister inspect` is seen by looking oneself; a change for the worse is reported."""
    enclave = host.start(host.image(kit, "hostile.c", "quiet"))
    told = json.loads(host.command("cloister.cli.main", "inspect", enclave["EnclaveName"], "--json").stdout)
    assert told["Verdict"] == "ok"
    roles = {one["Role"]: one for one in told["Processes"]}
    supervisor, monitor, emulator = process_tree(enclave["ProcessID"])
    assert [roles[role]["ProcessID"] for role in ("supervisor", "bubblewrap", "QEMU")] == [
        supervisor, monitor, emulator,
    ]  # fmt: skip
    claims = {one["Subject"]: one["Measured"] for one in roles["QEMU"]["Findings"]}
    for kind in NAMESPACES:
        its, hosts = (link(f"/proc/{pid}/ns/{kind}") for pid in (emulator, "self"))
        assert its != hosts
        assert claims[f"{kind} namespace"] == f"{its}, its own"
    enter = ["nsenter", "-t", str(emulator), "-U", "-n", "--preserve-credentials", "--"]
    interfaces = subprocess.check_output([*enter, "cat", "/proc/self/net/dev"], text=True).splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    assert claims["network"] == "interfaces lo; 0 routes; sockets: none"
    assert not Path(f"/proc/{emulator}/root/etc").exists()
    assert "its own, holding bin, dev, lib" in claims["root directory"]
    assert [line.split()[4] for line in mountinfo(emulator)] == ["/", "/proc"]
    assert all("ro" in line.split()[5].split(",") for line in mountinfo(emulator))
    status = Path(f"/proc/{emulator}/status").read_text()
    assert len(re.findall(r"^Cap\w+:\t0+$", status, re.MULTILINE)) == 5
    assert "Seccomp_filters:\t2" in status
    assert claims["seccomp"] == "filter, 2 filters"
    assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{emulator}/limits").read_text())
    assert claims["core dumps"] == "core limit 0, guest memory kept out of dumps"
    assert claims["guest memory"].startswith(f"{enclave['MemoryMiB']} MiB mapped of memory files")
    assert "2, of which 2 lead to the supervisor" in claims["sockets"]
    (vcpu,) = [
        int(t.name) for t in Path(f"/proc/{emulator}/task").iterdir() if "CPU 0" in (t / "comm").read_text()
    ]
    assert os.sched_getaffinity(vcpu) == set(enclave["CPUIDs"])
    assert host.command("cloister.cli.main", "inspect", enclave["EnclaveID"]).stdout.count("weaker") == 0
    os.sched_setaffinity(vcpu, os.sched_getaffinity(0))
    worse = host.command("cloister.cli.main", "inspect", enclave["EnclaveID"], code=1).stdout
    assert f"weaker: QEMU (process {emulator}), processors: a vCPU may leave its processors" in worse
    host.nitro_cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
    gone = host.command("cloister.cli.main", "inspect", enclave["EnclaveID"], code=1)
    assert "There is no running enclave" in gone.stderr


def link(path: str) -> str:
    """Return where a link of /proc leads."""
    return str(Path(path).readlink())


def mountinfo(pid: int) -> list[str]:
    """Return a process's mounts."""
    return Path(f"/proc/{pid}/mountinfo").read_text().splitlines()


def test_qemu_without_a_jail_is_found_out(jail: Jail) -> None:
    """The same QEMU, started bare, is reported as sharing every namespace, the files and all system calls."""
    library = jail.directory / "usr/lib/x86_64-linux-gnu"
    loader = (jail.directory / "usr/lib64/ld-linux-x86-64.so.2").resolve()
    emulator = jail.directory / "usr/bin/qemu-system-x86_64"
    words: list[str | Path] = [loader, "--library-path", library, emulator]
    bare: list[str | Path] = [
        "-M",
        "microvm,acpi=off",
        "-nodefaults",
        "-display",
        "none",
        "-S",
        "-bios",
        jail.directory / "usr/share/qemu/bios-microvm.bin",
    ]
    with subprocess.Popen([*words, *bare], stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: len(list(Path(f"/proc/{process.pid}/task").iterdir())) > 1)
            found = inspect_machine(Process(process.pid), Process(os.getpid()))
        finally:
            process.kill()
    weak = {one.subject: one.why for one in found if one.verdict == "weaker"}
    assert {f"{kind} namespace" for kind in NAMESPACES} <= set(weak)
    assert {"seccomp", "no new privileges", "root directory", "mounts", "guest memory", "its end"} <= set(
        weak
    )
    assert any(one.subject == "processors" and "CPU 0" in one.measured for one in found)


@pytest.mark.parametrize("own_user", [True, False])
def test_whoever_is_in_the_jail_stays_there(tmp_path: Path, own_user: bool) -> None:
    """A program in QEMU's place, with its arguments and descriptors, gets at nothing of the host."""
    if own_user and os.geteuid() != 0:
        own_user = False  # only root has users to give away
    program = tmp_path / "root/usr/bin/qemu-system-x86_64"
    compile_guest("break_out.c", program)
    for name in ("proc", "tmp", "dev", "run"):
        (tmp_path / "root" / name).mkdir()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    name = f"cloister-{secrets.token_hex(6)}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        order = f"{secret} {tcp.getsockname()[1]} {name} {os.getpid()}"
        jailed = run_jailed(Jail(tmp_path / "root"), order, UID_BASE + os.getpid() if own_user else None)
        bare = run_bare(program, order)
    lines = jailed.splitlines()
    assert lines[-1] == "done", jailed
    assert len(lines) > 45
    assert [line for line in lines[:-1] if ": refused " not in line] == []
    for attempt in ("read /etc/passwd", "connect to the host's TCP", "see other processes", "write to /tmp"):
        assert f"{attempt}: POSSIBLE" in bare, "the attempts themselves work where there is no jail"


def run_bare(program: Path, order: str) -> str:
    """Run the same as an ordinary user outside of a jail; return what it wrote."""
    with program.open("rb") as file:  # that user may not walk to it
        return subprocess.run(
            [f"/proc/self/fd/{file.fileno()}", "-append", order],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=(file.fileno(),),
            user=65534 if os.geteuid() == 0 else None,
            check=False,
        ).stderr


def run_jailed(jail: Jail, order: str, uid: int | None) -> str:
    """Run whatever is at QEMU's place in a jail as a machine is run; return what it wrote."""
    memory = MemoryFile(64)
    empty = os.memfd_create("empty")
    ours, theirs = socket.socketpair()
    config = MachineConfig(
        cpus=1,
        memory_mib=64,
        memory_fd=memory.fd,
        accelerator="tcg",
        cmdline=order,
        kernel_fd=empty,
        initrd_fd=empty,
        vsock_fd=theirs.fileno(),
    )
    machine = spawn_machine(config, jail, uid=uid)
    try:
        wait_until(lambda: machine.has_ended)
    finally:
        machine.close()
        memory.close()
        os.close(empty)
        ours.close()
        theirs.close()
    return machine.complaint
