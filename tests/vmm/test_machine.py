"""What a machine's starter hears from bubblewrap."""

import asyncio
import os
import select
import signal
import subprocess
import threading
import time
from pathlib import Path

from cloister.vmm.machine import Machine, _prepare, _read_to_end


def test_information_that_comes_in_pieces_is_read_whole() -> None:
    """Bubblewrap writes more than once: closing the pipe after the first piece would kill it half-way."""
    ours, theirs = os.pipe()

    def tell() -> None:
        for piece in (b'{\n    "child-pid": 7', b",\n", b'    "net-namespace": 1\n}\n'):
            os.write(theirs, piece)
            time.sleep(0.02)
        os.close(theirs)

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        assert _read_to_end(ours, 10) == b'{\n    "child-pid": 7,\n    "net-namespace": 1\n}\n'
    finally:
        teller.join()
        os.close(ours)


def test_silence_is_waited_for_no_longer_than_allowed() -> None:
    """A pipe that nobody writes to or closes gives nothing, in time."""
    ours, theirs = os.pipe()
    try:
        assert _read_to_end(ours, 0.05) == b""
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_jail_does_not_outlive_its_killed_starter() -> None:
    """When the starter is killed, the kernel kills what it has started."""
    hear, told = os.pipe()
    starter = os.fork()
    if starter == 0:
        subprocess.run(
            ["sh", "-c", "echo $$; exec sleep 100"],
            stdout=told,
            preexec_fn=_prepare(None, Path("/"), None),
            check=False,
        )
        os._exit(0)
    os.close(told)
    process = os.pidfd_open(int(os.read(hear, 100)))
    os.close(hear)
    os.kill(starter, signal.SIGKILL)
    os.waitpid(starter, 0)
    assert select.select([process], [], [], 10)[0], "it still runs"
    os.close(process)


def test_a_jail_killed_at_its_start_takes_its_child_along() -> None:
    """A child that bubblewrap has not told of, and that holds its standard error, is found by its group."""
    info_read, info_write = os.pipe()
    process = subprocess.Popen(
        ["sh", "-c", "sleep 100 & echo $!; exec sleep 100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    os.close(info_write)
    assert process.stdout is not None
    child = os.pidfd_open(int(process.stdout.readline()))
    process.stdout.close()
    machine = Machine(process, info_read)
    process.kill()
    assert asyncio.run(asyncio.wait_for(machine.wait(), 20)) == -signal.SIGKILL
    assert select.select([child], [], [], 10)[0], "its child still runs"
    os.close(child)
    machine.close()
