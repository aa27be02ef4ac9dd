"""Guests that flood everything they can reach: their supervisor stays small, others are served."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.control import DESCRIBE, Register, Request, ask
from cloister.kit import Kit
from cloister.vmm import Jail
from vm.own_host import OwnHost, own_host, wait_until

pytestmark = pytest.mark.vm

TOLD, DEAF, SERVED = 6001, 6002, 7000
WAITING = 140 << 10
"""KiB that vsock connections to a program that does not read may cost (decision 41)."""
SMALL = 16 << 10
FLOODS = {
    "vsock": ("vsock", False, 12, WAITING),
    "NSM": ("nsm", False, 6, SMALL),
    "console, production": ("console", False, 60, SMALL),
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


def flood(host: OwnHost, told: socket.socket, neighbour: int, wanted: int) -> None:
    """Let the guest go on until it has told enough, asking after it and its neighbour meanwhile."""
    count = asked = 0
    while count < wanted:
        piece = told.recv(wanted - count)
        assert piece, "the hostile guest is gone"
        count += len(piece)
        if count > asked:
            asked = count + wanted // 4
            answers = ask(host.run_directory, Register(host.run_directory).live(), Request(DESCRIBE))
            assert [a.reply.body["State"] for a in answers if a.reply] == ["RUNNING", "RUNNING"]
            echo(host, neighbour)


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
            flood(host, told, neighbour, hundreds)
        grown = anonymous_kib(enclave["ProcessID"]) - before
        host.nitro_cli("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
        assert grown < allowed, f"{grown} KiB"
    wait_until(lambda: not Path(f"/proc/{enclave['ProcessID']}").exists())
    assert [one["EnclaveCID"] for one in host.describe()] == [neighbour]
    echo(host, neighbour)
