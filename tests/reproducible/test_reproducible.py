"""The same input gives the same image, byte for byte, on machines that have nothing else in common."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.build import map_image
from cloister.eif import ImageMetadata
from cloister.places import current_places
from reproducible.other_python import OtherPython, OtherPythonMissingError, find_other_python
from reproducible.sandboxes import Build, abroad, home, next_door, run_on
from simulators.image_sources import (
    image_config,
    make_kit,
    member,
    tar_of,
    write_archive_of,
    write_docker_archive,
    write_oci_layout,
)
from simulators.signing_keys import write_signing_files

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def entry(name: bytes | str, kind: str, mode: int = 0o644, content: bytes = b"") -> dict[str, Any]:
    raw = name if isinstance(name, bytes) else name.encode()
    return {"name": raw.hex(), "kind": kind, "mode": mode, "content": content.hex()}


TREE = [
    entry("bin", "directory", 0o755),
    entry("srv", "directory", 0o2750),
    entry("tmp", "directory", 0o1777),
    entry("tmp/empty", "directory", 0o700),
    entry("bin/entry", "file", 0o4755, b"#!/bin/sh\necho hello\n"),
    entry("bin/again", "hardlink", content=b"bin/entry"),
    entry("bin/sh", "symlink", content=b"entry"),
    entry("big", "file", 0o600, bytes(range(256)) * 9000),
    entry("sparse", "sparse", 0o640, b"3000001"),
    entry("pipe", "fifo", 0o622),
    entry("outside", "symlink", content=b"/../../etc/shadow"),
    entry("circle", "symlink", content=b"circle/circle"),
    *[entry(name, "file", 0o444, name.encode()) for name in ("I", "i", "\u0130", "\u0131", "\u6f22")],
    entry("x" * 255, "file", 0o444),
    *[entry(name, "file", 0o444, name) for name in (b"\xff\xfe", b"\xe9", b"\xc3\xa9", b"new\nline")],
]  # fmt: skip


@pytest.fixture(scope="module")
def other_python() -> OtherPython:
    """Return another release's Python."""
    try:
        return find_other_python(current_places())
    except OtherPythonMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what every machine gets: archives of three forms, a signer's files, metadata and a guest kit."""
    given = tmp_path_factory.mktemp("given")
    make_kit(given / "cache/cloister/kits")
    times: dict[str, Any] = {"uid": 5, "gid": 6, "uname": "app", "mtime": 1_600_000_000.25}
    layers = [
        tar_of([member("bin/entry", body=b"#!", mode=0o755, **times), member("etc/gone", body=b"x")]),
        tar_of([member("etc/.wh.gone"), member("b\u0131n/\u0130", body=b"I" * 70_000, **times)]),
    ]
    (given / "plain.tar").write_bytes(layers[0])
    config = image_config(layers)
    for name, pack in (("gzip", None), ("zstd", zstd.compress)):
        packed: dict[str, Any] = {} if pack is None else {"pack": pack}
        layout = write_oci_layout(given / name, layers, config=config, **packed)
        write_archive_of(layout, given / f"{name}.oci")
    write_docker_archive(given / "docker.tar", layers, config=config)
    write_signing_files(given / "signer", ec.generate_private_key(ec.SECP384R1()))
    (given / "metadata.json").write_text('{"b": 1, "a": ["\u0131", 0.1, 1e22]}', encoding="utf-8")
    return given


def image(name: str, *words: str | bytes, **environment: str) -> Build:
    return Build(name, "cloister", ("image", "build", *words, "--output", f"OUT/{name}.eif"), environment)


def builds(given: Path) -> list[Build]:
    """Return one command for every kind of source and each way of signing."""
    signer = ["--signing-certificate", f"{given}/signer/certificate.pem"]
    signer += ["--private-key", f"{given}/signer/key.pem"]
    command: list[str | bytes] = ["--cmd", "/bin/entry h\u00e4user \u0130".encode()]
    command += ["--env", "\u0131=gr\u00fc\u00dfe".encode()]
    signed = [
        "build-enclave",
        "--docker-uri",
        f"oci-archive:{given}/zstd.oci",
        "--output-file",
        "OUT/nitro.eif",
    ]
    return [
        image("directory", "TREE", *command, "--workdir", "/srv/\u015f", "--user", "app", "--name", "\u00fc"),
        image("not-utf-8", "dir:TREE", "--cmd", b"/bin/entry \xe9\xff", "--env", b"A=\xfe"),
        image("timed", "TREE", "--cmd", "/bin/entry", SOURCE_DATE_EPOCH="1700000000"),
        image("tar", f"{given}/plain.tar", "--cmd", "/bin/entry", "--metadata", f"{given}/metadata.json"),
        image("docker", f"docker-archive:{given}/docker.tar"),
        image("aws", f"oci:{given}/gzip", "--compat", "aws"),
        image("gzip", f"{given}/gzip.oci"),
        image("zstd", f"oci-archive:{given}/zstd.oci"),
        image("signed", "TREE", "--cmd", "/bin/entry", *signer),
        Build("nitro", "nitro-cli", (*signed, *signer)),
        Build("resigned", "nitro-cli", ("sign-eif", "--eif-path", "OUT/nitro.eif", *signer)),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Built:
    """What a machine has built, and what it says of itself."""

    out: Path
    facts: dict[str, Any]

    def image(self, name: str) -> bytes:
        """Return an image's bytes."""
        return (self.out / f"{name}.eif").read_bytes()


@pytest.fixture(scope="module")
def built(given: Path, other_python: OtherPython, tmp_path_factory: pytest.TempPathFactory) -> list[Built]:
    """Build everything on every machine, first on this host as it is."""
    scratch = [tmp_path_factory.mktemp(name) for name in ("home", "abroad", "next-door")]
    machines = [home(scratch[0]), abroad(other_python), next_door(scratch[2])]
    outs = [path / "out" for path in scratch]
    return [
        Built(out, run_on(machine, given, out, TREE, builds(given)))
        for machine, out in zip(machines, outs, strict=True)
    ]


def test_machines_that_differ_build_the_same_bytes(given: Path, built: Sequence[Built]) -> None:
    """Umask, locale, zone, file system, user, Python, C library, names: no image depends on any of them."""
    first, *others = built
    names = {build.name for build in builds(given)} - {"resigned"}  # where "nitro" lay
    assert {path.stem for path in first.out.glob("*.eif")} == names
    differing = [
        (name, other.facts) for name in names for other in others if other.image(name) != first.image(name)
    ]
    assert differing == []


def test_these_machines_differ(built: Sequence[Built]) -> None:
    """What the images shall not depend on is really another thing on each machine."""
    first, elsewhere, neighbour = (one.facts for one in built)
    for name in ("hostname", "umask", "hash", "encoding", "locale", "zone", "user"):
        assert len({str(facts[name]) for facts in (first, elsewhere, neighbour)}) == 3, name
    assert first["listed"] != elsewhere["listed"]
    assert first["python"].split(".")[:2] != elsewhere["python"].split(".")[:2]
    assert first["c library"] != elsewhere["c library"]
    assert elsewhere["file system"] == "tmpfs"
    if os.geteuid() == 0:  # who else may mount what this takes
        assert neighbour["file system"] == "overlay"
        assert neighbour["listed"] != first["listed"]


def test_how_a_layer_is_stored_is_not_in_the_image(built: Sequence[Built]) -> None:
    """One image with gzip layers, with zstd layers and as docker-archive: the same bytes."""
    assert built[0].image("gzip") == built[0].image("zstd") == built[0].image("docker")


def test_nothing_in_an_image_is_of_now(built: Sequence[Built]) -> None:
    """The build time is SOURCE_DATE_EPOCH, else the image's creation, else 1970."""
    times = {path.stem: read_metadata(path).build.build_time for path in built[0].out.glob("*.eif")}
    created = dict.fromkeys(("docker", "aws", "gzip", "zstd", "nitro"), "2024-02-03T04:05:06.123456+00:00")
    none = dict.fromkeys(("directory", "not-utf-8", "tar", "signed"), "1970-01-01T00:00:00+00:00")
    assert times == created | none | {"timed": "2023-11-14T22:13:20+00:00"}


def test_arguments_are_bytes_in_every_locale(built: Sequence[Built]) -> None:
    """What the shell passed on is in the image as it was, be it UTF-8 or not."""
    for name, expected in (
        ("directory", "h\u00e4user\n\u0130\n".encode()),
        ("directory", "\u0131=gr\u00fc\u00dfe\n".encode()),
        ("not-utf-8", b"/bin/entry\n\xe9\xff\n"),
        ("not-utf-8", b"A=\xfe\n"),
    ):
        assert expected in built[0].image(name)


def read_metadata(path: Path) -> ImageMetadata:
    metadata = map_image(path).metadata
    assert metadata is not None
    return metadata
