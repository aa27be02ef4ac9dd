"""An enclave's parts live and die together; its end is recorded before its place is given up."""

import asyncio
import fcntl
import io
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.control import Register, Registration
from cloister.eif import SectionSource, SectionType, write_eif
from cloister.flight import FlightRecorder, find_record
from cloister.places import Places
from cloister.supervisor import RunRequest, loading
from cloister.supervisor.enclave import Enclave
from cloister.supervisor.ending import Ending
from cloister.supervisor.journal import Journal
from cloister.supervisor.starting import Started
from cloister.vmm import Machine

SECTIONS = ((SectionType.KERNEL, b"kernel"), (SectionType.CMDLINE, b"quiet"), (SectionType.RAMDISK, b"disk"))


def smallest_image() -> bytes:
    """Return an image that can be read, though not booted."""
    content = io.BytesIO()
    write_eif(content, [SectionSource.of(kind, payload) for kind, payload in SECTIONS])
    return content.getvalue()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """Start what only waits, with the smallest image there is."""
    image = tmp_path / "web.eif"
    image.write_bytes(smallest_image())
    with image.open("rb") as file:
        loaded = loading.load_image(file.fileno())
    info, told = os.pipe()
    os.close(told)
    machine = Machine(subprocess.Popen(["sleep", "100"], stderr=subprocess.PIPE, process_group=0), info)
    vsock, nsm = socket.socketpair()
    with vsock, nsm:
        yield Started(loaded, machine, vsock, nsm, None)
    machine.close()
    loaded.release()


def make_enclave(places: Places, started: Started, place: Registration) -> Enclave:
    """Make the enclave of a machine."""
    request = RunRequest(Path("web.eif"), 64, cpu_count=1)
    return Enclave(request, (0,), started, places=places, journal=Journal(places.logs), place=place)


def places_in(path: Path) -> Places:
    """Return places of a test's own."""
    return Places(path / "run", path / "logs", path / "state", path / "cache", path / "artifacts")


def test_a_part_that_fails_ends_the_enclave(tmp_path: Path, started: Started) -> None:
    """An enclave does not go on, unheard or unwatched, when what serves or watches it has failed."""
    places = places_in(tmp_path)
    place = Register(places.run).reserve("a1")

    async def fail() -> None:
        raise TimeoutError("QEMU is not gone")

    async def story() -> None:
        enclave = make_enclave(places, started, place)
        enclave._start(fail())
        await asyncio.wait_for(enclave._over.wait(), 10)

    asyncio.run(story())
    place.close()
    log = (places.logs / "nitro_enclaves.log").read_text()
    assert "ends (machine-failed): A part of the enclave's supervisor failed (TimeoutError: QEMU" in log


def test_the_end_is_recorded_before_the_place_is_given_up(
    tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor killed at its very end leaves a record with its reason, or a place that leads to it."""
    places = places_in(tmp_path)
    place = Register(places.run).reserve("a1")
    reserved: list[bool] = []
    update = FlightRecorder.update

    def look(recorder: FlightRecorder, **fields: object) -> None:
        update(recorder, **fields)
        reserved.append((places.run / ".a1").exists())

    monkeypatch.setattr(FlightRecorder, "update", look)

    async def story() -> None:
        enclave = make_enclave(places, started, place)
        enclave._recorder = FlightRecorder(places.logs, "i-1-enca1")
        enclave._measured = asyncio.get_running_loop().create_future()
        enclave._end(Ending("terminated", "It was asked for."))
        enclave.conclude()

    asyncio.run(story())
    record = find_record(places.logs, "i-1-enca1")
    assert record.is_over
    assert (record.reason, reserved) == ("It was asked for.", [True])
    assert not (places.run / ".a1").exists()


def test_a_killed_supervisors_locks_are_free_though_a_kernel_was_being_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that unpacks a kernel inherits every lock and does not outlive its supervisor with them."""
    (tmp_path / "web.eif").write_bytes(smallest_image())
    hear, told = os.pipe()

    def unpack(_: memoryview) -> None:
        os.write(told, b".")
        time.sleep(60)

    supervisor = os.fork()
    if supervisor == 0:
        monkeypatch.setattr(loading, "unpack_kernel", unpack)
        held = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(held, fcntl.LOCK_EX)
        loading.load_image(os.open(tmp_path / "web.eif", os.O_RDONLY))
        os.read(hear, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(supervisor, 0)
    os.close(hear)
    os.close(told)
    deadline = time.monotonic() + 20
    with (tmp_path / "lock").open() as lock:
        while not is_free(lock.fileno()):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def is_free(lock: int) -> bool:
    """Say whether a lock can be had."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
