"""Real places to fetch from: a container store, a registry and a Docker daemon, each with the same image."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from container_tools.hello import run, store_busybox, write_example
from container_tools.serving import free_port, serving, serving_registry
from container_tools.unpacking import ContainerTools
from simulators.image_sources import make_kit

OWN_SYSTEM = """\
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" none /etc
mount -t tmpfs none /run
mount -t tmpfs none /opt
shift
exec "$@"
"""
"""What a Docker daemon writes into a system goes with it: a key, plug-ins, directories of containerd."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A container store with the example's image, and the directory it was built from."""

    environment: Mapping[str, str]
    example: Path
    home: Path


@pytest.fixture(scope="session")
def stored(tools: ContainerTools, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Build the example's image once."""
    home = tmp_path_factory.mktemp("stored")
    environment = tools.environment(home / "own")
    store_busybox(tools, environment, home)
    example = write_example(home / "hello")
    run(["buildah", "build", "--timestamp", "0", "-t", "hello", str(example)], environment, home)
    return Stored(environment, example, home)


@pytest.fixture
def here(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory of its own, with a guest kit, with the tools, and with that store."""
    for name, value in stored.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NITRO_CLI_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    make_kit(tmp_path / "cache/cloister/kits")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture(scope="session")
def registry(
    tools: ContainerTools, stored: Stored, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Serve ``team/hello`` with the tags v1 (OCI) and v2 (Docker's format) over HTTP, on loopback."""
    home = tmp_path_factory.mktemp("registry")
    address = f"127.0.0.1:{free_port()}"
    with serving_registry(tools, home, address):
        for tag, form in (("v1", "oci"), ("v2", "v2s2")):
            words = ["skopeo", "copy", "--dest-tls-verify=false", "--format", form]
            words += ["containers-storage:localhost/hello:latest", f"docker://{address}/team/hello:{tag}"]
            run(words, stored.environment, home)
        yield address


@pytest.fixture(scope="session")
def docker(tools: ContainerTools, stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run a Docker daemon without network that has ``hello``, and return its socket."""
    if os.geteuid() != 0:
        pytest.skip("a Docker daemon needs root")
    home = tmp_path_factory.mktemp("docker")
    programs = ":".join(str(tools.root / directory) for directory in ("usr/sbin", "usr/bin", "sbin"))
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(tools.libraries),
    }
    listening = home / "docker.sock"
    (home / "etc").mkdir()
    words = ["unshare", "--mount", "sh", "-euc", OWN_SYSTEM, "sh", str(home / "etc")]
    words += [str(tools.root / "usr/sbin/dockerd"), "--host", f"unix://{listening}"]
    words += ["--storage-driver", "vfs", "--bridge", "none"]
    words += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
    words += ["--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid"]
    with serving(words, environment, home / "log", listening):
        words = ["skopeo", "copy", "--dest-daemon-host", f"unix://{listening}"]
        words += ["containers-storage:localhost/hello:latest", "docker-daemon:hello:latest"]
        run(words, stored.environment, home)
        yield listening
