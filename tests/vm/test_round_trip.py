"""One tree on every way into an enclave: two archives that buildah makes, a Dockerfile, the directory."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_tools.hello import run
from container_tools.unpacking import ContainerTools
from simulators.nitro_host import NitroHost

pytestmark = pytest.mark.vm

LIMIT = 120.0
PATH = "PATH=/bin"
GREETING = "GREETING=once round the world"
SAY = '#!/bin/sh\ncat /etc/motd\necho "$0: $GREETING, $#: $*"\n'
DOCKERFILE = f"""\
FROM scratch
COPY tree /
ENV {PATH}
ENV {GREETING.replace("=", '="')}"
CMD ["/bin/say", "two words", "three"]
"""
FORMS = ("oci-archive", "docker-archive")


@pytest.fixture
def host(tools: ContainerTools, tmp_path: Path) -> Iterator[NitroHost]:
    """Give a user the tools and a tree of busybox and a script; times are 1970, as a directory has none."""
    host = NitroHost.make(tmp_path)
    host.environment.update(tools.environment(tmp_path / "own"))
    commands = Path(sys.executable).parent
    host.environment.update(
        PATH=f"{commands}:{host.environment['PATH']}",
        NITRO_CLI_ARTIFACTS=str(tmp_path / "artifacts"),
        SOURCE_DATE_EPOCH="0",
    )
    tree = tmp_path / "context/tree"
    for name in ("bin", "etc"):
        (tree / name).mkdir(parents=True)
    (tree / "bin/busybox").write_bytes((tools.root / "bin/busybox").read_bytes())
    (tree / "bin/say").write_text(SAY)
    (tree / "etc/greeting").write_text("hello from a file\n")
    for name, mode in (("bin/busybox", 0o755), ("bin/say", 0o755), ("etc/greeting", 0o600)):
        (tree / name).chmod(mode)
    for name, target in (("bin/sh", "busybox"), ("bin/cat", "/bin/busybox"), ("etc/motd", "../etc/greeting")):
        (tree / name).symlink_to(target)
    (tmp_path / "context/Dockerfile").write_text(DOCKERFILE)
    try:
        yield host
    finally:
        host.cli("terminate-enclave", "--all")


def build_enclave(host: NitroHost, output: str, *words: str) -> dict[str, Any]:
    """Build with nitro-cli and return the measurements, which describe-eif repeats."""
    file = str(host.top / output)
    built = host.cli("build-enclave", "--output-file", file, *words)
    return repeated(host, file, json.loads(built.stdout)["Measurements"])


def repeated(host: NitroHost, file: str, measurements: dict[str, Any]) -> dict[str, Any]:
    assert json.loads(host.cli("describe-eif", "--eif-path", file).stdout)["Measurements"] == measurements
    return measurements


def test_every_form_of_a_tree_measures_the_same_and_boots(host: NitroHost) -> None:
    """Two archives of 'buildah from scratch', a Dockerfile and the directory: one PCR0; QEMU runs it."""
    container = run(["buildah", "from", "scratch"], host.environment, host.top).strip()
    tree = str(host.top / "context/tree")
    run(["buildah", "copy", container, tree, "/"], host.environment, host.top)
    words = ["--cmd", '["/bin/say", "two words", "three"]', "--env", PATH, "--env", GREETING]
    run(["buildah", "config", *words, container], host.environment, host.top)
    measured = {}
    for form in FORMS:
        archive = f"{form}:{host.top}/{form}"
        run(["buildah", "commit", "--timestamp", "0", container, archive], host.environment, host.top)
        measured[form] = build_enclave(host, f"{form}.eif", "--docker-uri", archive)
    run(["buildah", "rm", container], host.environment, host.top)
    dockerfile = ["--docker-uri", "say:v1", "--docker-dir", str(host.top / "context")]
    measured["Dockerfile"] = build_enclave(host, "dockerfile.eif", *dockerfile)
    file = str(host.top / "directory.eif")
    build = [sys.executable, "-m", "cloister.cli.main", "image", "build", f"dir:{tree}", "--output", file]
    built = run([*build, *words, "--json"], host.environment, host.top)
    measured["directory"] = repeated(host, file, json.loads(built)["Measurements"])
    assert list(measured.values()) == [measured["directory"]] * 4

    ran = subprocess.run(
        [sys.executable, "-m", "cloister.cli.main", "run", str(host.top / "oci-archive.eif"), "--debug"],
        env=os.environ | host.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "hello from a file" in ran.stdout
    assert "/bin/say: once round the world, 2: two words three" in ran.stdout
