"""Kill -9 of supervisor, QEMU, bubblewrap or the program in the guest, at random moments: nothing leaks."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from cloister.demo.leftovers import Traces, find_leftovers, observe
from cloister.flight import list_records
from simulators.nitro_host import OBEDIENT, NitroHost, find_supervisor, is_alive, process_tree, wait_for

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("CLOISTER_SOAK_KILLS", "50"))
SEED = int(os.environ.get("CLOISTER_SOAK_SEED", "1"))
VICTIMS = ("supervisor", "bubblewrap", "QEMU", "program")
CAUSES = {
    "supervisor": {"supervisor-killed"},
    "bubblewrap": {"machine-killed"},
    "QEMU": {"machine-killed"},
    "program": {"killed-by-signal"},
}
OUTLIVE_SECONDS = 2.0
"""How long a machine may outlive its supervisor, by the issue's promise."""


def of_user(uid: int) -> list[int]:
    """Return the living processes of a machine's own user."""
    return [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if _uid(path) == uid and is_alive(int(path.name))
    ]


def _uid(process: Path) -> int:
    try:
        return process.stat().st_uid
    except OSError:
        return -1


def kill_one(host: NitroHost, supervisor: int, victim: str) -> tuple[list[int], Traces]:
    """Kill a process of an enclave's family as soon as there is one, and return the family."""
    place = VICTIMS.index(victim)
    family = wait_for(lambda: _at_least(family_of(supervisor), place + 1), 20)
    traces = observe([supervisor], [])
    os.kill(family[place], signal.SIGKILL)
    return family, traces


def family_of(supervisor: int) -> list[int]:
    """Return a supervisor, bubblewrap and QEMU, as far as they are there; not what unpacks the kernel."""
    return [
        supervisor,
        *(pid for pid in process_tree(supervisor)[1:] if _name(pid) in ("bwrap", "qemu-syst")),
    ]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()[:9]
    except OSError:
        return ""


def _at_least(family: list[int], size: int) -> list[int] | None:
    return family if len(family) >= size else None


def one_round(host: NitroHost, image: Path, victim: str, delay: float) -> str:
    """Start an enclave, kill one of its processes so much later, and look at what is left."""
    known = {record.enclave_id for record in list_records(host.logs)}
    command = host.command(*host.run_words(image))
    with subprocess.Popen(
        command, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        if victim == "program":
            process.communicate(timeout=120)
            (enclave,) = host.describe()
            supervisor, traces = enclave["ProcessID"], observe([enclave["ProcessID"]], [])
            family = process_tree(supervisor)
            time.sleep(delay)
            host.order(enclave, "raise 9")
        else:
            supervisor = wait_for(lambda: find_supervisor(host.run_directory, process.pid), 20)
            time.sleep(delay)
            family, traces = kill_one(host, supervisor, victim)
        patience = OUTLIVE_SECONDS if victim == "supervisor" else 15.0
        started = time.monotonic()
        wait_for(lambda: not any(map(is_alive, family)), patience)
        wait_for(lambda: not of_user(0x7000_0000 + supervisor), patience)
        lived = time.monotonic() - started
        process.communicate(timeout=120)
    assert host.describe() == []
    assert host.left() == []
    left = find_leftovers(traces, run=host.run_directory, scratch=[])
    assert not any(left.values()), left
    for record in list_records(host.logs):
        if record.enclave_id not in known:
            assert record.is_over
            assert record.cause in CAUSES[victim], (record.cause, record.reason)
    return f"{victim} after {delay:.2f} s: all gone {lived:.2f} s later"


def test_random_kills(tmp_path: Path) -> None:
    """After every kill all processes end, the next describe-enclaves leaves nothing, the record is right."""
    host = NitroHost.make(tmp_path)
    image, _ = host.build("obedient", OBEDIENT, ["/bin/obedient"])
    dice, count = random.Random(SEED), Counter[str]()
    for number in range(1, ROUNDS + 1):
        victim, delay = dice.choice(VICTIMS), dice.uniform(0, dice.choice((0.1, 0.5, 2.0)))
        count[victim] += 1
        print(f"{number} of {ROUNDS}: {one_round(host, image, victim, delay)}", flush=True)
    print(dict(count))
