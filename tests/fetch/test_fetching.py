"""Images from everywhere become the same enclave: real skopeo and buildah, a real registry, a real daemon."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloister.cli.main import main
from cloister.cli.nitro import build_enclave, describe_eif
from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.grammar import Command, parse
from container_tools.hello import run, write_example
from container_tools.serving import PASSWORD, USER, free_port, serving_registry
from container_tools.unpacking import ContainerTools
from fetch.conftest import Stored

Capture = pytest.CaptureFixture[str]


def nitro_build(*words: str) -> None:
    code = build_enclave.run(parse(Command("nitro-cli", "", build_enclave.OPTIONS), words))
    assert code == 0


def build(capsys: Capture, source: str, *options: str) -> dict[str, str]:
    """Build with ``cloister image build`` and return the measurements, which describe-eif repeats."""
    capsys.readouterr()
    assert main(["image", "build", source, "-o", "x.eif", "--json", *options]) == 0, capsys.readouterr().err
    built: dict[str, str] = json.loads(capsys.readouterr().out)["Measurements"]
    assert describe(capsys)["Measurements"] == built
    return built


def describe(capsys: Capture, path: str = "x.eif") -> dict[str, Any]:
    """Return what describe-eif says."""
    capsys.readouterr()
    words = ["--eif-path", path]
    assert describe_eif.run(parse(Command("nitro-cli", "", describe_eif.OPTIONS), words)) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def refused(capsys: Capture, *words: str) -> str:
    capsys.readouterr()
    assert main(["image", "build", *words, "-o", "none.eif"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert not Path("none.eif").exists()
    return printed.err


@pytest.fixture
def nothing_left(here: Path) -> Callable[[], None]:
    """Return a check that no temporary space is left."""

    def check() -> None:
        assert [path.name for path in (here.parent / "artifacts").iterdir()] == [".fetch-lock"]

    return check


def test_every_source_of_one_image_measures_the_same(
    here: Path, stored: Stored, registry: str, capsys: Capture, nothing_left: Callable[[], None]
) -> None:
    """A store, a registry in both formats, archives, a layout, a directory, files of 1970: the same PCRs."""
    hello = "containers-storage:localhost/hello:latest"
    for target in ("oci-archive:hello.oci", "docker-archive:hello.tar:hello:v1", "oci:layout:v1"):
        run(["skopeo", "copy", hello, target], stored.environment, here)
    insecure = "--tls-verify=false"
    sources = [
        ("hello",),
        ("hello:latest", "--pull=never"),
        (hello,),
        ("containers-storage:hello",),
        (f"docker://{registry}/team/hello:v1", insecure),
        (f"{registry}/team/hello:v2", insecure, "--pull=always"),
        (f"{registry}/team/hello:v2", insecure),
        ("oci-archive:hello.oci",),
        ("docker-archive:hello.tar",),
        ("oci:layout",),
    ]
    measured = [build(capsys, *words) for words in sources]
    work = here / "tree"
    script = 'cp -a "$(buildah mount "$1")" "$2"'
    container = run(["buildah", "from", "hello"], stored.environment, here).strip()
    run(["sh", "-c", script, "sh", container, str(work)], stored.environment, here)
    run(["buildah", "rm", container], stored.environment, here)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    words = ["--cmd", "/bin/hello.sh", "--env", path, "--env", "HELLO=Hello from the enclave side!"]
    measured.append(build(capsys, f"dir:{work}", *words))
    assert all(found == measured[0] for found in measured), list(zip(sources, measured, strict=False))
    nothing_left()


def test_daemon_comes_before_the_store(
    here: Path, stored: Stored, docker: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Debian's Docker has is taken from it, what it has not from the store; both measure the same."""
    from_store = build(capsys, "hello")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{docker}")
    assert build(capsys, "docker-daemon:hello:latest") == from_store
    assert describe(capsys)["ImageName"] == "hello"
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(here / "none"))
    assert build(capsys, "hello") == from_store
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", stored.environment["CONTAINERS_STORAGE_CONF"])
    assert build(capsys, "busybox")["PCR2"] != from_store["PCR2"]
    assert "The Docker daemon has no image nothing." in refused(capsys, "docker-daemon:nothing")


def test_build_enclave_says_where_the_image_was(
    here: Path, registry: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local images are announced as AWS announces them; a registry's are named up to the first colon."""
    (here / "registries.conf").write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(here / "registries.conf"))
    started, found, created = (
        "Start building the Enclave Image...",
        "Using the locally available Docker image...",
        "Enclave Image successfully created.",
    )
    cases = [("hello:latest", [started, found, created], "hello")]
    cases += [(f"{registry}/team/hello:v1", [started, created], "127.0.0.1")]
    cases += [(f"docker://{registry}/team/hello:v1", [started, created], f"{registry}/team/hello")]
    measured = []
    for uri, chatter, name in cases:
        capsys.readouterr()
        nitro_build("--docker-uri", uri, "--output-file", "x.eif")
        printed = capsys.readouterr()
        assert printed.err.splitlines() == chatter
        measured.append(json.loads(printed.out)["Measurements"])
        shown = describe(capsys)
        assert shown["ImageName"] == name
        assert shown["Measurements"] == measured[-1]
        assert shown["Metadata"]["DockerInfo"]["Id"] == f"sha256:{shown['ImageVersion']}"
        assert shown["Metadata"]["BuildTime"][:19] == shown["Metadata"]["DockerInfo"]["Created"][:19]
    assert measured[0] == measured[1] == measured[2]


def test_dockerfile_is_built_by_buildah(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, nothing_left: Callable[[], None]
) -> None:
    """--docker-dir gives the same twice with SOURCE_DATE_EPOCH; what buildah says goes to standard error."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write_example(here / "hello")
    images = []
    for output in ("one.eif", "two.eif"):
        nitro_build("--docker-uri", "mine:v1", "--docker-dir", "hello", "--output-file", output)
        printed = capsys.readouterr()
        assert printed.err.startswith("Start building the Enclave Image...\nSTEP 1/4: FROM busybox\n")
        assert printed.err.endswith("\nEnclave Image successfully created.\n")
        assert "PCR2" in json.loads(printed.out)["Measurements"]
        images.append(Path(output).read_bytes())
    assert images[0] == images[1]
    assert describe(capsys, "one.eif")["Metadata"]["BuildTime"] == "2023-11-14T22:13:20+00:00"
    nothing_left()


def test_errors_have_nitro_clis_numbers(here: Path, registry: str, nothing_left: Callable[[], None]) -> None:
    """A Dockerfile that cannot be built is E49, an image that cannot be had is E50."""
    (here / "empty").mkdir()
    (here / "wrong").mkdir()
    (here / "wrong/Dockerfile").write_text("FROM busybox\nCOPY nothing /\n")
    cases = [
        ("E49", ["--docker-uri", "a", "--docker-dir", "empty"], "empty has no file named Dockerfile"),
        ("E49", ["--docker-uri", "a", "--docker-dir", "wrong"], "nothing"),
        ("E49", ["--docker-uri", "docker://a", "--docker-dir", "wrong"], "leave the prefix away"),
        ("E50", ["--docker-uri", f"{registry}/team/hello:v1"], "server gave HTTP response to HTTPS client"),
        ("E50", ["--docker-uri", "Not A Name"], "is no image's name"),
        ("E50", ["--docker-uri", "docker-daemon:hello"], "no Docker daemon answers"),
        ("E50", ["--docker-uri", "containers-storage:localhost/none"], "identifier is not an image"),
    ]
    for code, words, message in cases:
        with pytest.raises(NitroCliError) as error:
            nitro_build(*words, "--output-file", "y.eif")
        assert error.value.code == code
        assert message in str(error.value)
        assert not Path("y.eif").exists()
    nothing_left()


def test_nowhere_is_told_place_by_place(here: Path, registry: str, capsys: Capture) -> None:
    """An unknown name is one sentence with every place that was asked; a path is never looked for."""
    told = refused(capsys, f"{registry}/none:v1", "--tls-verify=false")
    assert "There is no file or directory" in told
    assert "no Docker daemon answers at unix://" in told
    assert "the container store does not have it" in told
    assert "manifest unknown" in told or "name unknown" in told
    told = refused(capsys, "nothing", "--pull=never")
    assert "registry" not in told
    assert refused(capsys, "./nothing") == "cloister: The source nothing does not exist.\n"


def test_password_of_a_registry_comes_from_the_auth_file(
    here: Path, tools: ContainerTools, stored: Stored, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the registry refuses; with the usual file, Docker's, or one that is named, it gives."""
    address = f"127.0.0.1:{free_port()}"
    with serving_registry(tools, here, address, password=True):
        words = ["skopeo", "copy", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}"]
        words += ["containers-storage:localhost/hello:latest", f"docker://{address}/private:v1"]
        run(words, stored.environment, here)
        source = [f"docker://{address}/private:v1", "--tls-verify=false"]
        told = refused(capsys, *source)
        assert "authentication required" in told or "unauthorized" in told
        own = str(here / "auth.json")
        words = [
            "skopeo",
            "login",
            "--tls-verify=false",
            f"--authfile={own}",
            "-u",
            USER,
            "-p",
            PASSWORD,
            address,
        ]
        run(words, stored.environment, here)
        build(capsys, *source, f"--authfile={own}")
        assert f"credentials {own}2 does not exist" in refused(capsys, *source, f"--authfile={own}2")
        monkeypatch.setenv("REGISTRY_AUTH_FILE", own)
        build(capsys, *source)
        monkeypatch.delenv("REGISTRY_AUTH_FILE")
        (here / "docker").mkdir()
        (here / "docker/config.json").write_bytes(Path(own).read_bytes())
        for docker_config in (own, str(here / "docker")):
            monkeypatch.setenv("DOCKER_CONFIG", docker_config)
            build(capsys, *source)


def test_interrupted_fetch_leaves_nothing(here: Path, nothing_left: Callable[[], None]) -> None:
    """SIGTERM while a registry keeps us waiting: skopeo ends, the temporary space goes, the code is 130."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"docker://127.0.0.1:{silent.getsockname()[1]}/hello"
        words = [sys.executable, "-m", "cloister.cli.main", "image", "build", source, "-o", "x.eif"]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)
        try:
            silent.settimeout(60)
            caller, _ = silent.accept()  # skopeo is there
            process.send_signal(signal.SIGTERM)
            _, complaint = process.communicate(timeout=60)
            with caller:
                caller.settimeout(60)
                while caller.recv(4096):  # until whoever called is gone
                    pass
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, complaint) == (130, b"cloister: interrupted\n")
    assert not Path("x.eif").exists()
    nothing_left()


def test_without_the_tools_one_sentence_says_what_to_install(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The package is skopeo for images, buildah for Dockerfiles."""
    monkeypatch.setenv("PATH", str(here))
    assert "install it with 'apt-get install skopeo'." in refused(capsys, "docker://hello")
    write_example(here / "hello")
    with pytest.raises(NitroCliError, match="install it with 'apt-get install buildah'"):
        nitro_build("--docker-uri", "a", "--docker-dir", "hello", "--output-file", "y.eif")


def test_image_for_several_platforms_gives_the_kits(
    here: Path, stored: Stored, registry: str, capsys: Capture
) -> None:
    """Of a name with x86_64 and aarch64, the guest kit's is fetched; an image of the other is refused."""
    (here / "arm").mkdir()
    (here / "arm/Dockerfile").write_text('FROM scratch\nCOPY Dockerfile /\nCMD ["/arm"]\n')
    both, arm = f"docker://{registry}/team/both:v1", "localhost/arm:latest"
    for line in (
        f"buildah build --arch arm64 --tag {arm} arm",
        "buildah manifest create both",
        "buildah manifest add both containers-storage:localhost/hello:latest",
        f"buildah manifest add both containers-storage:{arm}",
        f"buildah manifest push --all --tls-verify=false both {both}",
    ):
        run(line.split(), stored.environment, here)
    assert build(capsys, both, "--tls-verify=false") == build(capsys, "hello")
    assert "aarch64; the guest kit is for x86_64" in refused(capsys, f"containers-storage:{arm}")
