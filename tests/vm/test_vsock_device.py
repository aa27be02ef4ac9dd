"""Linux's own drivers against our devices: a guest's first program uses vsock and /dev/nsm."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cloister.devices import HostNetwork, NsmDevice, VsockDevice, serve_mux
from cloister.kit import Kit
from cloister.transport import RefusedError, listen, open_stream
from cloister.vhost import serve_device
from cloister.vmm import Jail, MachineConfig, MemoryFile, start_machine, unpack_kernel

pytestmark = pytest.mark.vm
SOURCE = Path(__file__).parent / "guest" / "vsock_init.c"
BOOT_SECONDS = 90.0
EXPECTED = [
    *(f"echo {size}: ok" for size in (1, 100, 4096, 65536, 70001, 1 << 20, 4 << 20)),
    "refused at once: ok",
    "another enclave refused: ok",
    "half close: ok",
    "nsm random: ok",
    "nsm describe: ok",
    "nsm too large: ok",
    "hwrng is nsm: ok",
    "listening",
    "peer is CID 3: ok",
    "served until the end: ok",
    "300 connections: ok",
    "guest: done",
]
Service = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Compile the guest's program and put it into a ramdisk."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is absent, which compiles the guest's program")
    program = tmp_path_factory.mktemp("guest") / "init"
    subprocess.run(["gcc", "-O1", "-static", "-o", program, SOURCE], check=True, timeout=60)
    archive = bytearray()
    for number, (name, content) in enumerate({"init": program.read_bytes(), "TRAILER!!!": b""}.items(), 1):
        fields = (number, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back."""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(1 << 18):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read to the end, then say how much it was."""
    total = 0
    while piece := await reader.read(1 << 18):
        total += len(piece)
    writer.write(b"%d" % total)
    writer.close()


@contextlib.asynccontextmanager
async def parent_programs() -> AsyncIterator[None]:
    """Run the parent's services at their vsock ports."""
    async with contextlib.AsyncExitStack() as stack:
        services: dict[int, Service] = {5000: echo, 5001: count}
        for port, service in services.items():
            await stack.enter_async_context(await asyncio.start_unix_server(service, sock=listen(port)))
        yield


def security_module(request: bytes) -> bytes:
    """Answer as a security module whose encoding is fixed: the real one has tests of its own."""
    if request == b"\x69GetRandom":
        return b"\xa1\x69GetRandom\xa1\x66random\x59\x01\x00" + os.urandom(256)
    return b"\xa1\x6bDescribeNSM\xa0"


def talk_to_guest(cid: int) -> None:
    """Be a program of the parent: connect into the enclave, and be refused by it."""
    payload = os.urandom(200_000)
    with open_stream(cid, 7000) as stream:
        stream.settimeout(20)
        stream.sendall(payload)
        stream.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: stream.recv(65536), b"")) == payload
    with pytest.raises(RefusedError):
        open_stream(cid, 7999)


async def boot(kit: Kit, jail: Jail, initrd: bytes, run: Path) -> list[str]:
    """Boot the guest with our devices and return what it printed, kernel's lines left out."""
    with contextlib.ExitStack() as stack:
        kernel = kit.kernel.read_bytes()
        files = []
        for name, content in (("kernel", unpack_kernel(kernel) or kernel), ("initrd", initrd)):
            files.append(stack.enter_context((run / name).open("w+b")))
            files[-1].write(content)
            files[-1].seek(0)
        claim = stack.enter_context(HostNetwork(run).claim_cid())
        vsock, vsock_peer = socket.socketpair()
        nsm, nsm_peer = socket.socketpair()
        console_read, console_write = os.pipe()
        memory = MemoryFile(128)
        stack.callback(memory.close)
        device = VsockDevice(guest_cid=claim.cid, dial=HostNetwork(run).dial)
        config = MachineConfig(
            cpus=2,
            memory_mib=128,
            memory_fd=memory.fd,
            accelerator="tcg",
            cmdline="console=ttyS0 reboot=t panic=-1 quiet",
            kernel_fd=files[0].fileno(),
            initrd_fd=files[1].fileno(),
            vsock_fd=vsock_peer.fileno(),
            nsm_fd=nsm_peer.fileno(),
            console_fd=console_write,
        )
        tasks = [
            asyncio.create_task(serve_device(vsock, device)),
            asyncio.create_task(serve_device(nsm, NsmDevice(security_module))),
        ]
        mux = asyncio.create_task(serve_mux(claim.listen_mux(), device.attach))
        async with start_machine(config, jail) as machine:
            vsock_peer.close()
            nsm_peer.close()
            os.close(console_write)
            lines = await watch(console_read, claim.cid)
            assert await machine.wait() == 0, machine.complaint
        await asyncio.gather(*tasks)
        mux.cancel()
        await asyncio.gather(mux, return_exceptions=True)
        return lines


async def watch(console: int, cid: int) -> list[str]:
    """Read the console to its end; talk to the guest when it listens."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(console, "rb")
    )
    lines = []
    while line := (await reader.readline()).decode(errors="replace"):
        lines.append(line.strip())
        if lines[-1] == "listening":
            await asyncio.to_thread(talk_to_guest, cid)
    transport.close()
    return lines


def test_linux_is_content_with_our_devices(
    kit: Kit, jail: Jail, initrd: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unmodified guest connects, is refused at once, half-closes, accepts from CID 3 and asks its NSM."""
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(tmp_path))

    async def test() -> None:
        async with asyncio.timeout(BOOT_SECONDS), parent_programs():
            lines = await boot(kit, jail, initrd, tmp_path)
            assert [line for line in lines if line in EXPECTED or "FAIL" in line] == EXPECTED

    asyncio.run(test())
