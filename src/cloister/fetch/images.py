"""Where an image is found, and how it gets here.

A name without a place is looked for in a Docker daemon if one answers, then in this host's container store,
then at its registry. skopeo copies to its ``dir:`` form, which keeps manifest and configuration byte for byte
(decision 0140); a few renames make an OCI layout of it.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.fetch.engine import DockerDaemon, NoDaemonError
from cloister.fetch.limits import SILENT_SECONDS, FetchError, FetchOptions, Progress
from cloister.fetch.names import ImageName
from cloister.fetch.tools import ToolFailedError, Watch, require_tool, run_tool

_PLATFORMS: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_MAX_MANIFEST: Final = 4 << 20
_NOT_THERE: Final = "identifier is not an image"
_BLOB: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Fetched:
    """An image that has arrived; valid as long as its workspace."""

    source: str
    """What ``cloister.build`` reads: a prefix and a path."""
    local: bool
    """Whether it was on this host: in a daemon or in a container store."""


@dataclass(frozen=True, slots=True)
class _Errand:
    name: ImageName
    platform: str
    workspace: Path
    options: FetchOptions
    environ: Mapping[str, str]
    progress: Progress


def fetch_image(
    name: ImageName,
    *,
    architecture: str,
    workspace: Path,
    options: FetchOptions,
    environ: Mapping[str, str],
    progress: Progress,
) -> Fetched:
    """Bring an image into the workspace; raises FetchError.

    ``architecture`` (``x86_64`` or ``aarch64``) chooses among the platforms of a name.
    """
    errand = _Errand(name, _PLATFORMS[architecture], workspace, options, environ, progress)
    match name.transport:
        case "docker-daemon":
            return _from_daemon_alone(errand)
        case "containers-storage":
            return _copied(errand, _in_storage(errand, []) or name.text, local=True)
        case "docker":
            return _copied(errand, f"docker://{name.in_registry}", local=False)
    return _looked_for(errand)


def _looked_for(errand: _Errand) -> Fetched:
    """Go from place to place; what each said is told when none has it."""
    name, answers = errand.name, list[str]()
    if errand.options.pull != "always":
        try:
            if (found := _from_daemon(errand, DockerDaemon.find(errand.environ))) is not None:
                return found
            answers.append("the Docker daemon does not have it")
        except NoDaemonError as error:
            answers.append(str(error))
        if (place := _in_storage(errand, answers)) is not None:
            return _copied(errand, place, local=True)
    if errand.options.pull != "never":
        try:
            return _copied(errand, f"docker://{name.in_registry}", local=False)
        except FetchError as error:
            answers.append(str(error).rstrip("."))
    raise FetchError(f"{name.text} is nowhere to be had: {'; '.join(answers)}.")


def _from_daemon_alone(errand: _Errand) -> Fetched:
    try:
        found = _from_daemon(errand, DockerDaemon.find(errand.environ))
    except NoDaemonError as error:
        raise FetchError(f"{errand.name.text} cannot be fetched: {error}.") from error
    if found is None:
        raise FetchError(f"The Docker daemon has no image {errand.name.name}.")
    return found


def _from_daemon(errand: _Errand, daemon: DockerDaemon) -> Fetched | None:
    size = daemon.size_of(errand.name.name)
    if size is None:
        return None
    archive = errand.workspace / "image.tar"
    daemon.export(errand.name.name, archive, size, errand.progress)
    return Fetched(f"docker-archive:{archive}", local=True)


def _in_storage(errand: _Errand, answers: list[str]) -> str | None:
    """Return where this host's container store has the image; why it has none goes to ``answers``."""
    skopeo, reason = _skopeo(errand, "look for"), ""
    for name in errand.name.in_storage:
        place = f"containers-storage:{name}"
        try:
            run_tool(
                [*skopeo, "inspect", "--raw", place], errand.workspace, errand.environ, Watch(SILENT_SECONDS)
            )
        except ToolFailedError as error:
            if _NOT_THERE not in str(error):
                reason = f"the container store cannot be read: {error}"
        else:
            return place
    answers.append(reason or "the container store does not have it")
    return None


def _copied(errand: _Errand, place: str, *, local: bool) -> Fetched:
    """Copy an image with skopeo; raises FetchError."""
    words = [*_skopeo(errand, "fetch"), "--override-os", "linux", "--override-arch", errand.platform]
    words += ["copy", "--retry-times", "2"]
    if not local and (authfile := errand.options.authfile or _docker_config(errand.environ)) is not None:
        if not authfile.is_file():
            raise FetchError(f"The file of registry credentials {authfile} does not exist.")
        words += ["--src-authfile", str(authfile.absolute())]
    if errand.options.tls_verify is not None and not local:
        words += [f"--src-tls-verify={'true' if errand.options.tls_verify else 'false'}"]
    arrived = errand.workspace / "image"
    watch = Watch(SILENT_SECONDS, lambda done: errand.progress(f"fetching {errand.name.text}", done, 0))
    try:
        run_tool([*words, "--", place, f"dir:{arrived}"], errand.workspace, errand.environ, watch)
    except ToolFailedError as error:
        raise FetchError(f"{place} cannot be fetched: {error}.") from error
    return Fetched(f"oci:{_as_layout(arrived, errand.workspace / 'layout', place)}", local=local)


def _skopeo(errand: _Errand, purpose: str) -> list[str]:
    """Return how skopeo is called; raises FetchError where it is not installed."""
    words = [require_tool("skopeo", f"to {purpose} {errand.name.text}")]
    if registries := errand.environ.get("CONTAINERS_REGISTRIES_CONF"):
        words += ["--registries-conf", registries]  # which buildah reads from the environment, and skopeo not
    return words


def _docker_config(environ: Mapping[str, str]) -> Path | None:
    """Return the file that DOCKER_CONFIG names, which skopeo 1.9 does not read.

    nitro-cli takes it as the file (nitro-tools 1.2), Docker as its directory; either will do.
    """
    if not (named := environ.get("DOCKER_CONFIG")) or "REGISTRY_AUTH_FILE" in environ:
        return None
    path = Path(named)
    path = path / "config.json" if path.is_dir() else path
    return path if path.is_file() else None


def _as_layout(arrived: Path, layout: Path, place: str) -> Path:
    """Turn skopeo's ``dir:`` into an OCI layout with one image, by renaming; raises FetchError."""
    blobs = layout / "blobs/sha256"
    try:
        blobs.mkdir(parents=True)
        with (arrived / "manifest.json").open("rb") as file:
            manifest = file.read(_MAX_MANIFEST + 1)
        for file_ in arrived.iterdir():
            if _BLOB.fullmatch(file_.name):
                file_.rename(blobs / file_.name)
        digest = hashlib.sha256(manifest).hexdigest()
        (blobs / digest).write_bytes(manifest)
        described = {
            "mediaType": _media_type(manifest, place),
            "digest": f"sha256:{digest}",
            "size": len(manifest),
        }
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        shutil.rmtree(arrived)
    except OSError as error:
        raise FetchError(f"{place} cannot be laid out for reading: {error.strerror}.") from error
    return layout


def _media_type(manifest: bytes, place: str) -> str:
    """Return what a manifest says it is; raises FetchError for the formats without a configuration."""
    try:
        document = json.loads(manifest) if len(manifest) <= _MAX_MANIFEST else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise FetchError(f"{place} has a manifest that is no JSON object of at most {_MAX_MANIFEST} bytes.")
    if document.get("schemaVersion") != 2:
        raise FetchError(
            f"{place} has a manifest of schema version {str(document.get('schemaVersion'))[:20]}; "
            "expected 2: push the image anew with a current tool."
        )
    return str(document.get("mediaType", _OCI_MANIFEST))
