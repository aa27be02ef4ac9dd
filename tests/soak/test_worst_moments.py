"""Supervisor and bubblewrap killed while a machine starts: no QEMU is left, and what waits is found."""

import os
import random
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from cloister.control import Register, mark_children
from cloister.kit import Kit, find_kit
from cloister.places import current_places
from cloister.vmm import Jail, MachineConfig, MemoryFile, find_jail, spawn_machine, unpack_kernel

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("CLOISTER_SOAK_STARTS", "200"))
SEED = int(os.environ.get("CLOISTER_SOAK_SEED", "1"))
OUTLIVE_SECONDS = 2.0
TOKEN = f"worst-moment-{os.getpid()}"
"""What only these machines have on their command lines."""


@dataclass(frozen=True)
class Bench:
    """What every machine of the test is started from."""

    run: Path
    jail: Jail
    kernel_fd: int
    initrd_fd: int

    @classmethod
    def make(cls, run: Path, kit: Kit, jail: Jail) -> "Bench":
        """Unpack the kernel; the ramdisk holds nothing, for no machine gets that far."""
        packed = (kit.directory / "kernel").read_bytes()
        kernel, initrd = os.memfd_create("kernel"), os.memfd_create("initrd")
        os.write(kernel, unpack_kernel(packed) or packed)
        os.write(initrd, bytes(512))
        return cls(run, jail, kernel, initrd)

    def start_and_hang(self, slot: str, told: int) -> NoReturn:
        """Be a supervisor: take a place, start a machine, tell bubblewrap's number, and hang."""
        mark_children(Register(self.run).reserve(slot).slot)
        memory = MemoryFile(64)
        ends = [socket.socketpair(), socket.socketpair()]
        os.write(told, b" ")
        config = MachineConfig(
            cpus=1,
            memory_mib=64,
            memory_fd=memory.fd,
            lock_memory=False,
            accelerator="tcg",
            cmdline=TOKEN,
            kernel_fd=self.kernel_fd,
            initrd_fd=self.initrd_fd,
            vsock_fd=ends[0][1].fileno(),
            nsm_fd=ends[1][1].fileno(),
            kvm_fd=None,
            console_fd=None,
        )
        machine = spawn_machine(config, self.jail)
        os.write(told, str(machine.pid).encode())
        time.sleep(600)
        os._exit(0)


def machines() -> list[str]:
    """Return the programs that run with the token on their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes()
            if TOKEN.encode() in words:
                found.append(words.partition(b"\0")[0].decode())
    return found


def kill_at_random(bench: Bench, slot: str, dice: random.Random) -> None:
    """Start a supervisor and kill it, or bubblewrap and then it, within milliseconds."""
    hear, told = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        with suppress(BaseException):
            bench.start_and_hang(slot, told)
        os._exit(1)
    os.close(told)
    os.read(hear, 1)
    if dice.random() < 0.3:
        time.sleep(dice.uniform(0, 0.03))
    else:
        jail = int(os.read(hear, 20))
        time.sleep(dice.uniform(0, 0.004))
        os.kill(jail, 9)
    os.kill(supervisor, 9)
    os.waitpid(supervisor, 0)
    os.close(hear)


def test_no_qemu_is_left_and_what_waits_is_found(tmp_path: Path) -> None:
    """2 s after the last kill no QEMU runs, and after the next look at the register nothing at all."""
    bench = Bench.make(tmp_path, find_kit(current_places()), find_jail(current_places()))
    dice = random.Random(SEED)
    for number in range(1, ROUNDS + 1):
        kill_at_random(bench, f"{number:x}", dice)
    time.sleep(OUTLIVE_SECONDS)
    left = machines()
    print(f"\n{ROUNDS} killed at their start; left waiting: {len(left)}")
    assert set(left) <= {"bwrap"}
    assert Register(tmp_path).live() == []
    deadline = time.monotonic() + OUTLIVE_SECONDS
    while machines():
        assert time.monotonic() < deadline, machines()
        time.sleep(0.02)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
