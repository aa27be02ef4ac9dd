"""Guests that flood everything they can reach: their supervisor stays small, others are served."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cloister.control import DESCRIBE, Register, Request, ask
from cloister.devices import HostNetwork, NsmDevice, VsockDevice
from cloister.kit import Kit
from cloister.vhost import Device, DeviceError, serve_device
from cloister.vmm import Jail, MachineConfig, MemoryFile, start_machine
from vm.own_host import GUESTS, OwnHost, own_host, wait_until

pytestmark = pytest.mark.vm

TOLD, DEAF, SERVED = 6001, 6002, 7000
WAITING = 140 << 10
"""KiB that vsock connections to a program that does not read may cost (decision 41)."""
SMALL = 16 << 10
FLOODS = {
    "vsock": ("vsock", False, 12, WAITING),
    "NSM": ("nsm", False, 6, SMALL),
    "console, production": ("console", False, 20, SMALL),
    "console, debug": ("console", True, 6, SMALL),
}
"""Name: what the guest floods, whether in debug mode, hundreds of blows to wait for, KiB it may cost."""


@pytest.fixture(scope="module")
def host(kit: Kit, jail: Jail, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnHost]:
    """Make a host for these tests."""
    with own_host(tmp_path_factory.mktemp("host")) as made:
        yield made


@pytest.fixture(scope="module")
def neighbour(host: OwnHost, kit: Kit) -> int:
    """Run an enclave that echoes, and return its CID."""
    return int(host.start(host.image(kit, "hostile.c", "quiet"))["EnclaveCID"])


def anonymous_kib(pid: int) -> int:
    """Return the memory that is this process's alone."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


def echo(host: OwnHost, cid: int) -> None:
    """Send something into an enclave and insist on getting it back."""
    with contextlib.closing(host.dial(cid, SERVED)) as stream:
        stream.sendall(b"are you there?")
        assert stream.recv(100) == b"are you there?"


@contextlib.contextmanager
def deaf_program(listener: socket.socket) -> Iterator[None]:
    """Accept every connection and read nothing."""
    accepted: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted.append(listener.accept()[0])

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for sock in (listener, *accepted):
            sock.close()


def flood(host: OwnHost, told: socket.socket, echoing: Sequence[int], wanted: int) -> None:
    """Let the guest go on until it has told enough, asking after it and those that echo meanwhile."""
    count = asked = 0
    while count < wanted:
        piece = told.recv(wanted - count)
        assert piece, "the hostile guest is gone"
        count += len(piece)
        if count > asked:
            asked = count + wanted // 4
            answers = ask(host.run_directory, Register(host.run_directory).live(), Request(DESCRIBE))
            assert [a.reply.body["State"] for a in answers if a.reply] == ["RUNNING", "RUNNING"]
            for cid in echoing:
                echo(host, cid)


@pytest.mark.parametrize("name", FLOODS)
def test_flood_harms_nobody_else(host: OwnHost, kit: Kit, neighbour: int, name: str) -> None:
    """Under a flood the supervisor grows within bounds, answers in time, ends on request; others go on."""
    words, debug, hundreds, allowed = FLOODS[name]
    listener, deaf = host.listen(TOLD), host.listen(DEAF)
    deaf.settimeout(None)
    with deaf_program(deaf):
        mode = ["--debug-mode"] if debug else []
        enclave = host.start(host.image(kit, "hostile.c", words), *mode)
        told, _ = listener.accept()
        told.settimeout(90)
        before = anonymous_kib(enclave["ProcessID"])
        with told, listener:
            # a guest that floods its security module has its own vsock served all the same
            echoing = [neighbour, *([int(enclave["EnclaveCID"])] if name == "NSM" else [])]
            flood(host, told, echoing, hundreds)
        grown = anonymous_kib(enclave["ProcessID"]) - before
        host.nitro_cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
        assert grown < allowed, f"{grown} KiB"
    wait_until(lambda: not Path(f"/proc/{enclave['ProcessID']}").exists())
    assert [one["EnclaveCID"] for one in host.describe()] == [neighbour]
    echo(host, neighbour)


@pytest.fixture(scope="module")
def garbage_kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the kernel that writes garbage into rings."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is absent: the guest's program is compiled here")
    kernel = tmp_path_factory.mktemp("garbage") / "kernel"
    words: list[str | Path] = ["gcc", "-m32", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie"]
    words += [
        "-fno-stack-protector",
        "-fno-asynchronous-unwind-tables",
        "-mno-sse",
        "-O1",
        "-Wall",
        "-Werror",
    ]
    words += ["-Wl,-Ttext-segment=0x100000,-e,start,--build-id=none", "-o", kernel]
    subprocess.run([*words, GUESTS / "garbage_rings.c"], check=True, timeout=60)
    return kernel


async def run_garbage(kernel: Path, jail: Jail, run: Path, seed: int) -> list[str]:
    """Boot the hostile kernel with our devices; return what ended the devices."""
    reasons: list[str] = []
    pairs = [socket.socketpair() for _ in range(2)]
    memory, empty = MemoryFile(64), os.memfd_create("initrd")
    os.write(empty, bytes(512))
    devices: list[Device] = [
        VsockDevice(guest_cid=16, dial=HostNetwork(run).dial),
        NsmDevice(lambda request: request[:16]),
    ]
    try:
        with kernel.open("rb") as file:
            config = MachineConfig(
                cpus=1,
                memory_mib=64,
                memory_fd=memory.fd,
                accelerator="tcg",
                cmdline=str(seed),
                kernel_fd=file.fileno(),
                initrd_fd=empty,
                vsock_fd=pairs[0][1].fileno(),
                nsm_fd=pairs[1][1].fileno(),
            )
            async with start_machine(config, jail) as machine:

                async def serve(sock: socket.socket, device: Device) -> None:
                    try:
                        await serve_device(sock, device)
                    except DeviceError as error:
                        reasons.append(str(error))
                        machine.kill()

                for _, theirs in pairs:
                    theirs.close()
                tasks = [serve(ours, device) for (ours, _), device in zip(pairs, devices, strict=True)]
                async with asyncio.timeout(60):
                    await asyncio.gather(*tasks, machine.wait())
    finally:
        memory.close()
        os.close(empty)
    return reasons


def test_garbage_in_the_rings_ends_the_device_alone(jail: Jail, garbage_kernel: Path, tmp_path: Path) -> None:
    """A kernel that writes garbage into its rings loses its machine by DeviceError, whatever the garbage."""
    before = anonymous_kib(os.getpid())
    ends = [asyncio.run(run_garbage(garbage_kernel, jail, tmp_path, seed)) for seed in range(6)]
    assert any(ends), "no garbage was noticed: did the kernel run?"
    assert anonymous_kib(os.getpid()) - before < SMALL
