"""A guest that never stops asking its security module: the supervisor's loop stays everybody's."""

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloister.attestation import Expected, verify
from cloister.control import Reply
from cloister.control import Request as ControlRequest
from cloister.devices import NsmDevice
from cloister.measure import Measurements
from cloister.nsm import (
    Attest,
    ErrorCode,
    GetRandom,
    NotYetError,
    RandomBytes,
    Refusal,
    SignedDocument,
    decode_response,
    encode_request,
)
from cloister.supervisor.control_socket import ControlSocket
from cloister.supervisor.security import Security
from cloister.trust import Trust, initialise
from cloister.vhost import serve_device
from simulators.vhost_front_end import FrontEnd
from simulators.vsock_host import OPEN_PORT, VsockHost, receive_all

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
INSTANCE_ID = "i-0123456789abcdef0"
MODULE_ID = f"{INSTANCE_ID}-enc0198bc503b57519e"
MEASURED = Measurements(b"\1" * 48, b"\2" * 48, b"\3" * 48)
ROUNDS = 20
ATTEST, RANDOM = encode_request(Attest(nonce=bytes(32))), encode_request(GetRandom())


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, with a time limit."""
    asyncio.run(asyncio.wait_for(coroutine, 60))


class Flood:
    """A security module whose guest's ring is full whenever it is looked at; it counts the loop's turns."""

    def __init__(self) -> None:
        self.front = FrontEnd((16,), memory_size=1 << 20, buffer_size=0x4000)
        self.answers: list[int] = []
        """The turn in which each answer was given."""
        self.turn = 0
        self.task = asyncio.create_task(serve_device(self.front.back_end, NsmDevice(self._handle)))
        self.front.set_up()
        self._fill()
        self._count()

    def _fill(self) -> None:
        ring = self.front.queues[0]
        ring.take_used()
        while ring.add(b"again", writable=[0x3000]):
            pass
        ring.notify()

    def _count(self) -> None:
        self.turn += 1
        asyncio.get_running_loop().call_soon(self._count)

    def _handle(self, _request: bytes) -> bytes:
        self.answers.append(self.turn)
        self._fill()
        return b"answer"

    async def close(self) -> None:
        """End the device."""
        self.front.socket.close()
        await self.task
        self.front.close()


async def talk_over_vsock(host: VsockHost) -> None:
    """Have the guest send something to a program of the parent, and wait until it has it."""
    connection = host.guest.connect(OPEN_PORT)
    while not host.dialled or connection.state != "open":
        host.guest.poll()
        await asyncio.sleep(0)
    host.guest.send(connection, b"are you there?")
    while not receive_all(host.dialled[-1]):
        host.guest.poll()
        await asyncio.sleep(0)
    host.guest.reset(connection)
    await host.settle()


async def ask_control_socket(path: Path) -> None:
    """Have the enclave described."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        await loop.sock_connect(client, str(path))
        await loop.sock_sendall(client, ControlRequest("describe").to_bytes())
        answer = b""
        while chunk := await loop.sock_recv(client, 65536):
            answer += chunk
    assert Reply.from_bytes(answer) == Reply(0, {"State": "RUNNING"})


def test_others_have_their_turn_in_a_flood(tmp_path: Path) -> None:
    """However full its ring is, a guest gets one answer a turn; vsock and control socket are served."""

    async def describe(_: bool) -> dict[str, Any]:
        return {"State": "RUNNING"}

    async def story() -> None:
        control = ControlSocket(tmp_path / "x.sock", describe)
        serving = asyncio.create_task(control.serve())
        async with VsockHost() as host:
            flood = Flood()
            for _ in range(ROUNDS):
                given = len(flood.answers)
                await talk_over_vsock(host)
                await ask_control_socket(tmp_path / "x.sock")
                assert len(flood.answers) > given, "the flood goes on meanwhile"
            assert len(flood.answers) == len(set(flood.answers)), "never two answers in one turn"
            await flood.close()
        serving.cancel()
        control.close()
        await asyncio.gather(serving, return_exceptions=True)

    run(story())


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """Return a root of trust just made."""
    return initialise(tmp_path / "pki", region="local", instance_id=INSTANCE_ID, now=NOW)


@pytest.fixture
def complaints() -> list[str]:
    """Return what the security module has complained of."""
    return []


@pytest.fixture
def security(trust: Trust, complaints: list[str]) -> Security:
    """Return the security module, as its supervisor has it, of an image that has been measured."""
    measuring: Future[Measurements] = Future()
    measuring.set_result(MEASURED)
    return Security(MODULE_ID, trust, measuring, debug=False, complain=complaints.append)


@contextmanager
def trust_held_by_somebody(trust: Trust) -> Iterator[None]:
    """Hold the lock that issuing takes."""
    lock = os.open(trust.directory / ".lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def wait_for(security: Security) -> None:
    """Wait for what is pending."""
    pending = security.pending
    if pending is not None:
        pending.result(30)


def attest(security: Security, trust: Trust, now: datetime) -> bytes:
    """Ask for a document as the device does; return the leaf of what verifies."""
    try:
        answer = decode_response(security.handle(ATTEST, now))
    except NotYetError:
        wait_for(security)
        answer = decode_response(security.handle(ATTEST, now))
    assert isinstance(answer, SignedDocument)
    expect = Expected(pcrs={0: MEASURED.pcr0, 1: MEASURED.pcr1, 2: MEASURED.pcr2})
    return verify(answer.document, roots=[trust.root_certificate], now=now, expect=expect).certificate


def test_issuing_never_holds_the_loop(trust: Trust, security: Security) -> None:
    """While another process holds the root of trust other requests are answered; documents wait for it."""
    with trust_held_by_somebody(trust):
        with pytest.raises(NotYetError):
            security.handle(ATTEST, NOW)
        assert security.pending is not None
        assert isinstance(decode_response(security.handle(RANDOM, NOW)), RandomBytes)
        with pytest.raises(NotYetError):
            security.handle(ATTEST, NOW)
    wait_for(security)
    attest(security, trust, NOW)
    assert security.pending is None


def test_renewal_happens_behind_documents_of_the_old_leaf(trust: Trust, security: Security) -> None:
    """In a leaf's last half hour documents do not wait; the next leaf follows when it is there."""
    first = attest(security, trust, NOW)
    late = NOW + timedelta(hours=2, minutes=40)
    with trust_held_by_somebody(trust):
        for _ in range(3):
            assert attest(security, trust, late) == first
        assert security.pending is not None
    wait_for(security)
    assert attest(security, trust, late) != first


def test_leaf_that_was_never_used_is_not_used_when_it_is_old(trust: Trust, security: Security) -> None:
    """A leaf issued for a request that came long before the next one is issued again."""
    attest(security, trust, NOW)
    late = NOW + timedelta(hours=2, minutes=40)
    attest(security, trust, late)  # has the next one issued
    assert security._making is not None
    unused = security._making.result(30)
    much_later = NOW + timedelta(hours=9)
    assert not isinstance(unused, Exception)
    assert attest(security, trust, much_later) != unused.certificate
    attest(security, trust, NOW - timedelta(seconds=30))  # the clock was put back


def refuse(security: Security, now: datetime) -> None:
    """Ask for a document that cannot be had."""
    with pytest.raises(NotYetError):
        security.handle(ATTEST, now)
    wait_for(security)
    assert decode_response(security.handle(ATTEST, now)) == Refusal(ErrorCode.INTERNAL_ERROR)


def test_root_of_trust_that_is_gone_is_an_internal_error(
    trust: Trust, security: Security, complaints: list[str]
) -> None:
    """What cannot be issued is refused once it has been tried, told once, and tried for the next request."""
    (trust.directory / "root.key").unlink()
    for name in ("regional.pem", "zonal.pem", "instance.pem"):
        (trust.directory / name).rename(trust.directory / f"{name}.away")
    for _ in range(2):
        refuse(security, NOW)
    (complaint,) = complaints
    assert complaint.startswith("no certificate for the enclave's documents: the regional authority")
    for name in ("regional.pem", "zonal.pem", "instance.pem"):
        (trust.directory / f"{name}.away").rename(trust.directory / name)
    attest(security, trust, NOW)


def test_guest_that_asks_without_end_does_not_fill_the_log(
    trust: Trust, security: Security, complaints: list[str]
) -> None:
    """A reason that names the time is told once a minute, and anew when there was a certificate since."""
    late = NOW + timedelta(days=365 * 40)  # the root has ended
    for seconds in (0, 1, 2, 59):
        refuse(security, late + timedelta(seconds=seconds))
    assert len(complaints) == 1
    refuse(security, late + timedelta(seconds=60))
    assert len(set(complaints)) == 2
    attest(security, trust, NOW)
    refuse(security, late + timedelta(seconds=60))
    assert len(complaints) == 3


UNANSWERING_DISK = f"""
import os, sys
from concurrent.futures import Future
from pathlib import Path
from cloister.measure import Measurements
from cloister.nsm import Attest, NotYetError, encode_request
from cloister.supervisor.security import Security
from cloister.trust import open_trust

trust = open_trust(Path(sys.argv[1]))
(trust.directory / "root.pem").unlink()
os.mkfifo(trust.directory / "root.pem")
measuring = Future()
measuring.set_result(Measurements(bytes(48), bytes(48), bytes(48)))
security = Security("{MODULE_ID}", trust, measuring, debug=False, complain=print)
try:
    security.handle(encode_request(Attest()))
except NotYetError:
    print("issuing" if security.pending else "not issuing")
"""


def test_end_of_an_enclave_does_not_wait_for_its_certificate(trust: Trust) -> None:
    """A supervisor ends though the certificate that its guest has asked for cannot be issued for ever."""
    words = [sys.executable, "-c", UNANSWERING_DISK, str(trust.directory)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "issuing\n"
