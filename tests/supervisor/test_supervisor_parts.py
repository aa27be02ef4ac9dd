"""The supervisor's parts, each alone: identity, console, guest services, control socket, log."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import struct
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from cloister.control import Reply, Request
from cloister.supervisor.console import Console, ConsoleLog
from cloister.supervisor.control_socket import ControlSocket
from cloister.supervisor.identity import Identity, make_slot
from cloister.supervisor.journal import Journal
from cloister.supervisor.services import HEARTBEAT_PORT, STATUS_PORT, GuestServices


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a story with a time limit."""
    asyncio.run(asyncio.wait_for(story, 10))


def connect(path: Path) -> socket.socket:
    """Connect to a Unix socket for use in the loop."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    sock.setblocking(False)
    return sock


async def read(sock: socket.socket, size: int | None = None) -> bytes:
    """Read so many bytes, or up to the end."""
    loop = asyncio.get_running_loop()
    got = b""
    while (size is None or len(got) < size) and (chunk := await loop.sock_recv(sock, size or 65536)):
        got += chunk
    return got


def test_ids_are_the_slots() -> None:
    """The enclave id has the slot as it is, the module id has it padded to 16 digits."""
    identity = Identity("i-0123456789abcdef0", make_slot(unix_ms=0x18F_0000_0000, random=b"\x00\x2a"))
    assert identity.enclave_id == "i-0123456789abcdef0-enc18f00000000002a"
    assert identity.module_id == "i-0123456789abcdef0-enc018f00000000002a"


def test_console_log_keeps_the_newest() -> None:
    """Beyond its size the log drops the oldest; positions go on counting."""
    log = ConsoleLog(size=8)
    log.append(b"0123456789")
    assert log.read(0, 100) == (10, b"23456789")
    assert log.read(5, 2) == (7, b"56")
    assert log.read(10, 100) == (10, b"")


def test_console_readers_get_everything_and_the_end(tmp_path: Path) -> None:
    """Readers early and late get the output from its beginning, and end of file when the guest ends."""

    async def story() -> None:
        source, guest = os.pipe()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "console"))
        listener.listen()
        serving = asyncio.create_task(Console(source, listener).serve())
        with connect(tmp_path / "console") as early:
            os.write(guest, b"first ")
            assert await read(early, 6) == b"first "
            with connect(tmp_path / "console") as late:
                assert await read(late, 6) == b"first "
                os.write(guest, b"last")
                os.close(guest)
                assert (await read(early), await read(late)) == (b"last", b"last")
        await serving

    run(story())


def test_reader_who_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """A console reader that never reads neither stops the guest nor makes the log grow."""

    async def story() -> None:
        source, guest = os.pipe()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "console"))
        listener.listen()
        console = Console(source, listener)
        serving = asyncio.create_task(console.serve())
        stuck = connect(tmp_path / "console")
        os.set_blocking(guest, False)
        written = 0
        while written < 4 << 20:
            with contextlib.suppress(BlockingIOError):
                written += os.write(guest, bytes(1 << 16))
            await asyncio.sleep(0.001)
        assert len(console.log.read(0, 1 << 30)[1]) <= 1 << 20
        stuck.close()
        os.close(guest)
        await serving

    run(story())


def refuse(cid: int, port: int) -> socket.socket:
    """Refuse to connect anywhere else."""
    raise ConnectionRefusedError(f"{cid}:{port}")


def test_heartbeat_is_echoed_once() -> None:
    """The first 0xB7 is echoed and marks the guest as ready; a second heartbeat is refused."""

    async def story() -> None:
        services = GuestServices(refuse)
        with services.dial(3, HEARTBEAT_PORT) as guest:
            guest.send(b"\xb7")
            assert await read(guest) == b"\xb7"
        assert services.ready.done()
        with pytest.raises(ConnectionRefusedError):
            services.dial(3, HEARTBEAT_PORT)

    run(story())


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"EXIT" + struct.pack("<I", 7 << 8), 7 << 8),
        (b"EXIT" + struct.pack("<I", 9), 9),
        (b"QUIT" + bytes(4), None),
        (b"EXIT\x01", None),
        (b"", None),
        (b"FAIL", None),
    ],
)
def test_exit_status_is_believed_when_whole(message: bytes, status: int | None) -> None:
    """Eight right bytes are the program's wait status, anything else is none."""

    async def story() -> None:
        services = GuestServices(refuse)
        with services.dial(3, STATUS_PORT) as guest:
            guest.send(message)
        await services.drain()
        assert services.wait_status == status
        services.close()

    run(story())


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"FAIL/cmd is empty", "/cmd is empty"),
        (b"FAIL" + b"x" * 600, "x" * 512),
        (b"FAIL\xff", "\ufffd"),
        (b"FAI", None),
        (b"EXIT" + bytes(4), None),
    ],
)
def test_failed_init_is_heard(message: bytes, told: str | None) -> None:
    """Why an init could not start the program is heard, bounded, also where it has no time to close."""

    async def story() -> None:
        services = GuestServices(refuse)
        guest = services.dial(3, STATUS_PORT)
        guest.send(message)
        await services.drain()
        assert services.init_failure == told
        guest.close()
        services.close()

    run(story())


def test_other_ports_are_dialled_outside() -> None:
    """Only the two ports of CID 3 are the supervisor's own."""

    async def story() -> None:
        services = GuestServices(refuse)
        for cid, port in ((3, 8000), (4, HEARTBEAT_PORT)):
            with pytest.raises(ConnectionRefusedError, match=f"{cid}:{port}"):
                services.dial(cid, port)
        services.close()

    run(story())


def test_control_socket_describes_and_keeps_who_wants_the_end(tmp_path: Path) -> None:
    """Describe is answered at once; terminate is answered by the farewell, after the end."""

    async def describe(metadata: bool) -> dict[str, Any]:
        return {"Metadata": metadata}

    async def story() -> None:
        control = ControlSocket(tmp_path / "x.sock", describe)
        serving = asyncio.create_task(control.serve())
        with connect(tmp_path / "x.sock") as client:
            client.send(Request("describe", metadata=True).to_bytes())
            assert Reply.from_bytes(await read(client)) == Reply(0, {"Metadata": True})
        with connect(tmp_path / "x.sock") as client:
            client.send(Request("terminate").to_bytes())
            await control.terminate_requested.wait()
            control.farewell({"Terminated": True})
            assert Reply.from_bytes(await read(client)) == Reply(0, {"Terminated": True})
        with connect(tmp_path / "x.sock") as client:
            client.send(b"x" * 5000)
            with contextlib.suppress(ConnectionResetError):
                assert await read(client) == b""
        serving.cancel()
        control.close()

    run(story())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_other_users_do_not_keep_the_owner_from_the_control_socket(tmp_path: Path) -> None:
    """However many silent connections another user has, the owner is answered at once."""

    async def describe(_: bool) -> dict[str, Any]:
        return {}

    async def story() -> None:
        control = ControlSocket(tmp_path / "x.sock", describe)
        serving = asyncio.create_task(control.serve())
        hear, told = os.pipe()
        stranger = os.fork()
        if stranger == 0:
            os.chdir(tmp_path)
            os.setresuid(65534, 65534, 65534)
            held = [connect(Path("x.sock")) for _ in range(64)]
            os.write(told, bytes(len(held)))
            signal.alarm(30)
            signal.pause()
        await asyncio.to_thread(os.read, hear, 64)
        with connect(tmp_path / "x.sock") as client:
            client.send(Request("describe").to_bytes())
            async with asyncio.timeout(2):  # less than a silent client is waited for
                assert Reply.from_bytes(await read(client)) == Reply(0, {})
        os.kill(stranger, signal.SIGKILL)
        for pipe in (hear, told):
            os.close(pipe)
        serving.cancel()
        control.close()
        await asyncio.gather(serving, return_exceptions=True)

    tmp_path.chmod(0o755)
    run(story())
    os.wait()


def test_log_lines_stay_lines(tmp_path: Path) -> None:
    """Whatever a guest gets into a message is one line of nitro-cli's format, in log and record."""
    journal = Journal(tmp_path)
    journal.write("WARN", "not named yet")
    recorded: list[bytes] = []
    journal.name("1a2b", recorded.append)
    journal.write("INFO", "one\ntwo\x1b[31m\udc80" + "x" * 5000)
    first, second = (tmp_path / "nitro_enclaves.log").read_text().splitlines()
    time = r"[0-9-]{{10}}T[0-9:]{{8}}\.[0-9]{{3}}Z"
    form = rf"\[enc-{{}}:[0-9]+\]\[{{}}\]\[{time}\]\[test_supervisor_parts\.py:[0-9]+\] {{}}"
    assert re.fullmatch(form.format("xxxxxxx", "WARN", "not named yet"), first)
    assert re.fullmatch(form.format("1a2b", "INFO", r"one two \[31m x+"), second)
    assert len(second) < 2200
    assert recorded == [second.encode() + b"\n"]


@pytest.mark.parametrize(
    ("wanted", "logged"),
    [
        (None, "INFO WARN ERROR"),
        ("warn", "WARN ERROR"),
        ("info,nitro_cli=error", "ERROR"),
        ("hyper=trace", ""),
        ("off", ""),
        ("nitro_cli", "INFO WARN ERROR"),
    ],
)
def test_rust_log_decides_what_is_logged_but_not_what_is_recorded(
    tmp_path: Path, wanted: str | None, logged: str
) -> None:
    """The log has the levels that RUST_LOG asks for, the enclave's record all of them."""
    journal = Journal(tmp_path, wanted)
    recorded: list[bytes] = []
    journal.name("1a2b", recorded.append)
    for level in ("INFO", "WARN", "ERROR"):
        journal.write(level, "said")
    log = tmp_path / "nitro_enclaves.log"
    lines = log.read_text().splitlines() if log.exists() else []
    assert [line.split("][")[1] for line in lines] == logged.split()
    assert len(recorded) == 3


def test_a_log_that_nobody_reads_from_is_not_waited_for(tmp_path: Path) -> None:
    """Somebody who put a FIFO in the log's place does not stop the enclaves."""
    os.mkfifo(tmp_path / "nitro_enclaves.log")
    Journal(tmp_path).write("INFO", "unheard")


def test_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """An enclave goes on without its log."""
    (tmp_path / "logs").write_text("a file")
    Journal(tmp_path / "logs").write("INFO", "unheard")
    assert (tmp_path / "logs").read_text() == "a file"
