"""A small tree in every form an image can be built from, and a guest kit to build with."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloister.kit import Kit, KitManifest

CONFIG: dict[str, Any] = {
    "Entrypoint": ["/bin/entry"],
    "Cmd": ["--flag", "value"],
    "Env": ["PATH=/bin", "LANG=C"],
    "WorkingDir": "/srv",
    "User": "app:app",
}
DIRECTORIES = {"bin": 0o755, "etc": 0o755, "srv": 0o750, "tmp": 0o1777}
FILES = {
    "bin/entry": (0o755, b"#!/bin/sh\necho hello\n"),
    "etc/passwd": (0o644, b"app:x:7:7::/srv:/bin/sh\n"),
}
LINKS = {"bin/sh": "entry", "etc/outside": "/../../../etc/shadow"}


def member(
    name: str, kind: bytes = tarfile.REGTYPE, body: bytes = b"", **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    """Return a tar member; ``fields`` are TarInfo's."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(body), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, body


def tar_of(members: Sequence[tuple[tarfile.TarInfo, bytes]], layout: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=layout) as archive:
        for info, body in members:
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def sample_layers() -> list[bytes]:
    """Return two layers that make up the sample tree: what the first has too much, the second takes away."""
    first = [
        member("./"),
        *[member(f"./{name}", tarfile.DIRTYPE, mode=mode) for name, mode in DIRECTORIES.items()],
    ]
    first[0] = member("./", tarfile.DIRTYPE)
    first += [member(f"./{name}", body=body, mode=mode) for name, (mode, body) in FILES.items()]
    first += [member("./etc/old", body=b"gone"), member("./srv/junk/deep", body=b"gone too")]
    second = [
        member("etc/.wh.old"),
        member("srv/.wh.junk"),
        member("bin/again", tarfile.LNKTYPE, linkname="bin/entry", mode=0o755),
    ]
    second += [member(name, tarfile.SYMTYPE, linkname=target) for name, target in LINKS.items()]
    return [tar_of(first), tar_of(second, tarfile.GNU_FORMAT)]


def write_directory(root: Path) -> Path:
    """Lay the sample tree out as files."""
    root.mkdir()
    for name in DIRECTORIES:
        (root / name).mkdir()
    for name, (mode, body) in FILES.items():
        (root / name).write_bytes(body)
        (root / name).chmod(mode)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    (root / "bin/again").hardlink_to(root / "bin/entry")
    for name, mode in DIRECTORIES.items():
        (root / name).chmod(mode)
    return root


def image_config(layers: Sequence[bytes], config: Mapping[str, Any] = CONFIG) -> bytes:
    """Return a container image's configuration."""
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    return json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-02-03T04:05:06.123456789Z",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": digests},
    }).encode()  # fmt: skip


def write_oci_layout(
    root: Path,
    layers: Sequence[bytes],
    *,
    config: bytes | None = None,
    pack: Callable[[bytes], bytes] = gzip.compress,
    names: Sequence[str] = ("hello:v1",),
) -> Path:
    """Write an OCI layout whose layers are packed; every name is the same image."""
    blobs = root / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(body: bytes, media: str, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(body).hexdigest()
        (blobs / digest).write_bytes(body)
        return {
            "mediaType": f"application/vnd.oci.image.{media}",
            "digest": f"sha256:{digest}",
            "size": len(body),
            **more,
        }

    manifest = {
        "schemaVersion": 2,
        "config": put(config or image_config(layers), "config.v1+json"),
        "layers": [put(pack(layer), "layer.v1.tar+gzip") for layer in layers],
    }
    described = put(json.dumps(manifest).encode(), "manifest.v1+json")
    manifests = [{**described, "annotations": {"org.opencontainers.image.ref.name": name}} for name in names]
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return root


def write_archive_of(root: Path, target: Path) -> Path:
    """Pack a layout's directory as an archive."""
    with tarfile.open(target, "w") as archive:
        archive.add(root, ".")
    return target


def write_docker_archive(target: Path, layers: Sequence[bytes], *, config: bytes | None = None) -> Path:
    """Write what ``docker save`` writes, with a link where two layers would be equal."""
    body = config or image_config(layers)
    name = f"{hashlib.sha256(body).hexdigest()}.json"
    paths = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": name, "RepoTags": ["hello:v1"], "Layers": paths}]).encode()
    members = [member(f"real{number}.tar", body=layer) for number, layer in enumerate(layers)]
    members += [member(path, tarfile.SYMTYPE, linkname=f"../real{n}.tar") for n, path in enumerate(paths)]
    target.write_bytes(tar_of([*members, member(name, body=body), member("manifest.json", body=manifest)]))
    return target


def make_kit(kits: Path) -> Kit:
    """Make a kit, in use, whose kernel and init are a few bytes."""
    files = {
        "cmdline": b"reboot=k panic=30",
        "init": b"\x7fELF init",
        "kernel": b"bzImage" * 99,
        "kernel.config": b"",
    }
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
    manifest = KitManifest("x86_64", "6.12.0", "linux-source", "6.12", "00" * 32, "gcc", digests)
    directory = kits / manifest.digest
    directory.mkdir(parents=True)
    for name, body in files.items():
        (directory / name).write_bytes(body)
    (directory / "manifest.json").write_bytes(manifest.to_bytes())
    (kits / "current-x86_64").symlink_to(manifest.digest)
    return Kit(directory, manifest)
