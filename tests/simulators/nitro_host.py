"""One user of nitro-cli on this host: directories, the commands, and an image that does as it is told."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import pytest

from cloister.build import Recipe, build_image
from cloister.kit import KitMissingError, find_kit
from cloister.measure import Measurements
from cloister.places import current_places
from cloister.transport import TransportError, open_stream
from cloister.trust import initialise
from cloister.vmm import JailMissingError, find_jail

INSTANCE = "i-0123456789abcdef0"
ORDERS_PORT = 5000
OBEDIENT = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void panic(void)
{
    int fd = open("/proc/sys/vm/panic_on_oom", O_WRONLY);
    if (fd < 0 || write(fd, "2", 1) != 1) exit(99);
    for (;;) memset(malloc(1 << 20), 1, 1 << 20);
}
int main(void)
{
    char order[64];
    struct sockaddr_vm here = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 5000 };
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0), client, length;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (bind(listener, (void *)&here, sizeof here) || listen(listener, 8)) return 98;
    puts("waiting for orders");
    while ((client = accept(listener, NULL, NULL)) >= 0) {
        if ((length = read(client, order, sizeof order - 1)) < 0) length = 0;
        order[length] = 0;
        if (!strncmp(order, "say ", 4)) write(client, order + 4, length - 4);
        if (!strncmp(order, "exit ", 5)) exit(atoi(order + 5));
        if (!strncmp(order, "raise ", 6)) raise(atoi(order + 6));
        if (!strcmp(order, "panic")) panic();
        close(client);
    }
    return 97;
}
"""
"""A program that does what its vsock port is told: say something, exit, raise a signal, panic the kernel."""


@dataclass(frozen=True)
class NitroHost:
    """One user's directories."""

    top: Path
    environment: dict[str, str]

    @classmethod
    def make(cls, top: Path, *, run: Path | None = None, logs: Path | None = None) -> Self:
        """Make a root of trust and an environment under ``top``; skip where no enclave can be started."""
        try:
            find_kit(current_places())
            find_jail(current_places())
        except (KitMissingError, JailMissingError) as error:
            pytest.skip(f"{error}")
        state = top / "state"
        initialise(state / "cloister/pki", region="local", instance_id=INSTANCE, now=datetime.now(UTC))
        environment = os.environ | {
            "XDG_STATE_HOME": str(state),
            "NITRO_CLI_SOCKETS_PATH": str(run or top / "run"),
            "NITRO_CLI_LOGS_PATH": str(logs or top / "logs"),
        }
        return cls(top, environment)

    @property
    def run_directory(self) -> Path:
        """Where its enclaves are registered."""
        return Path(self.environment["NITRO_CLI_SOCKETS_PATH"])

    @property
    def logs(self) -> Path:
        """Where its enclaves' records are."""
        return Path(self.environment["NITRO_CLI_LOGS_PATH"])

    def build(self, name: str, program: str, cmd: Sequence[str]) -> tuple[Path, Measurements]:
        """Compile a program to ``/bin/<name>`` of an image with that name, and build it."""
        root, source, image = self.top / f"{name}.root", self.top / f"{name}.c", self.top / f"{name}.eif"
        source.write_text(program)
        (root / "bin").mkdir(parents=True)
        command = ["gcc", "-static", "-O2", "-w", "-o", str(root / f"bin/{name}"), str(source)]
        subprocess.run(command, check=True)
        recipe = Recipe(cmd=cmd, name=name)
        return image, build_image(root, image, kit=find_kit(current_places()), recipe=recipe)

    def command(self, *words: str | Path) -> list[str]:
        """Return the words that run nitro-cli."""
        return [sys.executable, "-m", "cloister.cli.nitro.main", *map(str, words)]

    def cli(
        self, *words: str | Path, code: int | None = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run nitro-cli and insist on its exit code."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert code in (None, done.returncode), f"{done.returncode}: {done.stderr}"
        return done

    def run_words(self, image: Path, *words: str | Path, memory: int = 128) -> list[str | Path]:
        """Return the words that start an enclave with one CPU."""
        return ["run-enclave", "--cpu-count", "1", "--memory", str(memory), "--eif-path", image, *words]

    def start(self, image: Path, *words: str | Path, memory: int = 128) -> dict[str, Any]:
        """Start an enclave and return its description."""
        description: dict[str, Any] = json.loads(
            self.cli(*self.run_words(image, *words, memory=memory)).stdout
        )
        return description

    def describe(self, *words: str) -> list[dict[str, Any]]:
        """Return what describe-enclaves prints."""
        enclaves: list[dict[str, Any]] = json.loads(self.cli("describe-enclaves", *words).stdout)
        return enclaves

    def order(self, enclave: dict[str, Any], order: str) -> bytes:
        """Give the obedient program an order, once it listens, and return its answer."""
        with patch.dict(os.environ, self.environment):
            stream = wait_for(lambda: _try_open(enclave["EnclaveCID"]))
        with stream:
            stream.settimeout(30)
            stream.sendall(order.encode())
            try:
                answer: bytes = stream.recv(64)
            except ConnectionResetError:
                return b""
            return answer

    def left(self) -> list[str]:
        """Return what should not be there when no enclave runs; locks and empty directories may stay."""
        paths = self.run_directory.rglob("*")
        return sorted(str(path) for path in paths if not path.is_dir() and path.name != ".lock")


def _try_open(cid: int) -> Any:
    try:
        return open_stream(cid, ORDERS_PORT)
    except TransportError:
        return None


def process_tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return [pid]
    return [pid, *(descendant for child in children for descendant in process_tree(int(child)))]


def find_supervisor(run: Path, command: int) -> int | None:
    """Return the supervisor that a command has started: it knows the run directory and is on its own."""
    mark = f"NITRO_CLI_SOCKETS_PATH={run}".encode()
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes().split(b"\0"):
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    return next((pid for pid, parent in parents.items() if pid != command and parent not in parents), None)


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that has to come true soon."""
    wait_for(condition, seconds)


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait for something that has to come soon, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return found
