"""CIDs, paths and the multiplexer on the host."""

import asyncio
import contextlib
import multiprocessing
import os
import socket
import stat
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from cloister.devices import CidError, HostNetwork, serve_mux


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, with a time limit."""
    asyncio.run(asyncio.wait_for(coroutine, 20))


def test_cids_count_from_sixteen_and_come_back(tmp_path: Path) -> None:
    """The lowest free CID is taken; a released one is free again; a wanted one is given or refused."""
    network = HostNetwork(tmp_path)
    first, second = network.claim_cid(), network.claim_cid()
    assert (first.cid, second.cid) == (16, 17)
    with pytest.raises(CidError, match="in use"):
        network.claim_cid(17)
    with pytest.raises(CidError, match="reserved"):
        network.claim_cid(3)
    first.close()
    first.close()
    with network.claim_cid() as again, network.claim_cid(99) as wanted:
        assert (again.cid, wanted.cid) == (16, 99)
    second.close()
    assert [path.name for path in network.root.iterdir()] == [".lock"]


def test_everything_is_private(tmp_path: Path) -> None:
    """Directories are 0700, sockets 0600; a tree that others can write to is refused."""
    network = HostNetwork(tmp_path / "deep" / "run")
    with network.claim_cid() as claim, claim.listen_mux():
        assert stat.S_IMODE(claim.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(network.root.stat().st_mode) == 0o700
        assert stat.S_IMODE((claim.directory / "mux").stat().st_mode) == 0o600
    network.root.chmod(0o777)
    with pytest.raises(CidError, match="no one else"):
        network.claim_cid()


def _claim_and_die(run_directory: Path) -> None:
    claim = HostNetwork(run_directory).claim_cid()
    claim.listen_mux()
    os._exit(claim.cid)


def test_the_dead_hold_nothing(tmp_path: Path) -> None:
    """What a killed process left under its CID is replaced by the next holder."""
    process = multiprocessing.get_context("fork").Process(target=_claim_and_die, args=(tmp_path,))
    process.start()
    process.join(10)
    assert process.exitcode == 16
    assert (tmp_path / "vsock/16/mux").is_socket()
    with HostNetwork(tmp_path).claim_cid() as claim:
        assert claim.cid == 16
        assert not list(claim.directory.iterdir())


def test_claims_at_the_same_time_differ(tmp_path: Path) -> None:
    """Many claims at once get as many CIDs."""
    claims = []
    threads = [
        threading.Thread(target=lambda: claims.append(HostNetwork(tmp_path).claim_cid())) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(range(16, 32)) == {claim.cid for claim in claims}
    for claim in claims:
        claim.close()


def test_dialling_reaches_the_parents_listener_alone(tmp_path: Path) -> None:
    """(3, port) is a path; other CIDs, other ports and odd ports are refused."""
    network = HostNetwork(tmp_path / ("long" * 30))
    with network.locked():
        (network.root / "3").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(network.root / "3", os.O_PATH)
    listener.bind(f"/proc/self/fd/{directory}/5000")
    listener.listen()
    with listener, network.dial(3, 5000) as sock:
        assert not sock.getblocking()
        listener.accept()[0].close()
    for cid, port in ((3, 5001), (2, 5000), (16, 5000), (0, 10016), (3, 0xFFFFFFFF)):
        with pytest.raises(ConnectionRefusedError):
            network.dial(cid, port)
    os.close(directory)


class Attached:
    """Collects what the multiplexer hands on."""

    def __init__(self) -> None:
        self.ports: list[int] = []

    def __call__(self, sock: socket.socket, port: int) -> None:
        """Answer like an enclave that sends back what it gets."""
        self.ports.append(port)
        sock.setblocking(True)
        sock.settimeout(2)
        sock.sendall(b"OK 1\n" + sock.recv(100))
        sock.close()


def test_the_multiplexer_takes_the_line_and_no_byte_more(tmp_path: Path) -> None:
    """What follows the line belongs to the enclave; a client that says nonsense, or nothing, is cut off."""

    async def test() -> None:
        attached = Attached()
        with HostNetwork(tmp_path).claim_cid() as claim:
            serving = asyncio.create_task(serve_mux(claim.listen_mux(), attached))
            reader, writer = await asyncio.open_unix_connection(claim.directory / "mux")
            writer.write(b"CONN")
            await asyncio.sleep(0.01)
            writer.write(b"ECT 5000\npayload")
            assert await reader.read() == b"OK 1\npayload"
            writer.close()
            for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"CONNECT x\n", b"C" * 100, b"\n"):
                reader, writer = await asyncio.open_unix_connection(claim.directory / "mux")
                writer.write(nonsense)
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
            assert attached.ports == [5000]
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    run(test())


def test_a_silent_client_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that says nothing holds its place for a limited time."""
    monkeypatch.setattr("cloister.devices.mux.LINE_SECONDS", 0.05)

    async def test() -> None:
        with HostNetwork(tmp_path).claim_cid() as claim:
            serving = asyncio.create_task(serve_mux(claim.listen_mux(), Attached()))
            reader, writer = await asyncio.open_unix_connection(claim.directory / "mux")
            assert await asyncio.wait_for(reader.read(), 2) == b""
            writer.close()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    run(test())
