"""A host of one test module's own: directories, a root of trust, guests compiled here, nitro-cli."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.build import Recipe, Signer, build_image
from cloister.kit import Kit
from cloister.transport import listen, open_stream
from cloister.trust import initialise

GUESTS = Path(__file__).parent / "guest"
INSTANCE = "i-0123456789abcdef0"


@dataclass(frozen=True)
class OwnHost:
    """Where this host's things are, and what may be done with it."""

    top: Path
    environment: dict[str, str]

    @property
    def run_directory(self) -> Path:
        """The control sockets' directory."""
        return self.top / "run"

    @property
    def logs(self) -> Path:
        """The logs' directory."""
        return self.top / "logs"

    def command(
        self, module: str, *words: str | Path, code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the commands, ``cloister.cli.…``, and insist on its exit code, if given."""
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def nitro_cli(self, *words: str | Path) -> str:
        """Run nitro-cli and return what it prints."""
        return self.command("cloister.cli.nitro.main", *words).stdout

    def start(self, image: Path, *words: str, memory: int = 128, cpus: int = 1) -> dict[str, Any]:
        """Start an enclave and return its description."""
        sizes = ("--cpu-count", str(cpus), "--memory", str(memory))
        description: dict[str, Any] = json.loads(
            self.nitro_cli("run-enclave", *sizes, "--eif-path", image, *words)
        )
        return description

    def describe(self) -> list[dict[str, Any]]:
        """Return what describe-enclaves prints."""
        enclaves: list[dict[str, Any]] = json.loads(self.nitro_cli("describe-enclaves"))
        return enclaves

    def image(self, kit: Kit, source: str, *arguments: str, signer: Signer | None = None) -> Path:
        """Compile a guest program and make an image of it that runs it with these arguments."""
        name = "-".join((source.removesuffix(".c"), *arguments))
        root, image = self.top / f"root-{source}", self.top / f"{name}.eif"
        program = root / "bin/program"
        if not program.exists():
            compile_guest(source, program)
        recipe = Recipe(cmd=["/bin/program", *arguments], name=name)
        build_image(root, image, kit=kit, recipe=recipe, signer=signer)
        return image

    def listen(self, port: int) -> socket.socket:
        """Listen on a vsock port of the parent."""
        listener = listen(port)
        listener.settimeout(60)
        return listener

    def dial(self, cid: int, port: int) -> socket.socket:
        """Connect into an enclave."""
        stream = open_stream(cid, port)
        stream.settimeout(30)
        return stream


def compile_guest(source: str, program: Path) -> None:
    """Compile one of the guest programs, statically: there is nothing else in its world."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is absent: the guest's program is compiled here")
    program.parent.mkdir(parents=True, exist_ok=True)
    words: list[str | Path] = [
        "gcc",
        "-static",
        "-pthread",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        program,
        GUESTS / source,
    ]
    subprocess.run(words, check=True, timeout=120)


@contextlib.contextmanager
def own_host(top: Path) -> Iterator[OwnHost]:
    """Make a host below ``top`` and end every enclave of it afterwards."""
    environment = os.environ | {
        "XDG_STATE_HOME": str(top / "state"),
        "NITRO_CLI_SOCKETS_PATH": str(top / "run"),
        "NITRO_CLI_LOGS_PATH": str(top / "logs"),
    }
    initialise(top / "state/cloister/pki", region="local", instance_id=INSTANCE, now=datetime.now(UTC))
    host = OwnHost(top, environment)
    with pytest.MonkeyPatch.context() as patch:  # this process is one of the parent's programs
        patch.setenv("NITRO_CLI_SOCKETS_PATH", environment["NITRO_CLI_SOCKETS_PATH"])
        try:
            yield host
        finally:
            host.nitro_cli("terminate-enclave", "--all")


def process_tree(pid: int) -> list[int]:
    """Return a process and its descendants: supervisor, bubblewrap, QEMU."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in process_tree(int(child)))]


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that has to come true soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
