"""Servers for as long as a test needs them: any program that listens, and a registry."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from container_tools.unpacking import ContainerTools

PLAIN: dict[str, str] = {"PATH": os.environ["PATH"]}
"""For servers: a registry takes variables that begin with REGISTRY_ as its configuration."""
STARTING_SECONDS = 60.0
USER, PASSWORD = "someone", "a password"
HTPASSWD = "someone:$2b$04$36Ws57GpdR7WWoQ/G/sAGuXHst5zcLhW8CT6mt2OIDdzlqrcj3fMy"
"""As a registry wants it: bcrypt."""


def free_port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def serving(
    words: list[str], environment: Mapping[str, str], log: Path, address: str | Path
) -> Iterator[None]:
    """Run a server until the end of the block; it is there once its address can be connected to."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            words, env={**PLAIN, **environment}, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        deadline = time.monotonic() + STARTING_SECONDS
        while not _answers(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STARTING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(address: str | Path) -> bool:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as caller:
        caller.settimeout(1)
        if isinstance(address, Path):
            return caller.connect_ex(str(address)) == 0
        host, _, port = address.rpartition(":")
        return caller.connect_ex((host, int(port))) == 0


@contextmanager
def serving_registry(
    tools: ContainerTools, home: Path, address: str, *, password: bool = False
) -> Iterator[None]:
    """Run Debian's docker-registry on a loopback address, for anybody or for ``USER``."""
    auth = ""
    if password:
        (home / "htpasswd").write_text(f"{HTPASSWD}\n")
        auth = f'auth: {{htpasswd: {{realm: test, path: "{home}/htpasswd"}}}}\n'
    configuration = home / "config.yml"
    configuration.write_text(
        f'version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: "{home}/data"}}}}\n'
        f'http: {{addr: "{address}"}}\n{auth}'
    )
    words = [str(tools.root / "usr/bin/docker-registry"), "serve", str(configuration)]
    with serving(words, {}, home / "log", address):
        yield
