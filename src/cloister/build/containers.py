"""Container images at rest: an OCI layout, or the archive ``docker save`` writes.

Spec: OCI image specification 1.1 ("image-layout.md", "image-index.md", "manifest.md"); docker-archive is
described by its own ``manifest.json``. Every blob is compared with the digest that names it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloister.build.config import MAX_JSON, ImageConfig, parse_json, parse_json_value
from cloister.build.content import BuildError, Region
from cloister.build.layers import check_digest
from cloister.build.store import FileStore, require

_PLATFORMS: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_MAX_DEPTH: Final = 4
"""Indexes inside indexes."""
_MAX_LAYERS: Final = 1000


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is stored, perhaps compressed."""

    blob: Region
    digest: str | None
    """Of the stored bytes, where the format names it."""
    diff_id: str
    """Of the unpacked bytes."""


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """One image for one platform."""

    name: str
    """The name it was saved under, without tag; empty when it has none."""
    config: ImageConfig
    layers: tuple[Layer, ...]
    """Lowest first."""


def read_oci(store: FileStore, reference: str, architecture: str) -> ContainerImage:
    """Choose an image of a layout by architecture and name, or the only one; raises BuildError."""
    layout = parse_json(require(store, "oci-layout").read(MAX_JSON), f"{store.name}: oci-layout")
    if layout.get("imageLayoutVersion") != "1.0.0":
        raise BuildError(
            f"{store.name} has the layout version {layout.get('imageLayoutVersion')!r}; expected '1.0.0'."
        )
    index = parse_json(require(store, "index.json").read(MAX_JSON), f"{store.name}: index.json")
    named = _descriptors(index.get("manifests"), store.name)
    if reference:
        named = [item for item in named if reference in (_annotation(item, _REF_NAME), item.get("digest"))]
    chosen = _choose(store, named, architecture, _MAX_DEPTH)
    if not chosen:
        raise BuildError(f"{store.name} holds no image {reference!r} for {architecture}.")
    if len({item["digest"] for item in chosen}) != 1:
        names = ", ".join(sorted({_annotation(item, _REF_NAME) or item["digest"] for item in chosen}))
        raise BuildError(f"{store.name} holds several images: {names[:300]}; name one as oci:PATH:NAME.")
    manifest = _json_blob(store, chosen[0])
    (descriptor,) = _descriptors([manifest.get("config")], store.name)
    document = _blob(store, descriptor).read(MAX_JSON)
    config = ImageConfig.from_bytes(document, f"{store.name}: its configuration")
    layers = _descriptors(manifest.get("layers"), store.name)
    blobs = [(_blob(store, item, check=False), str(item["digest"])) for item in layers]
    name = reference or _annotation(chosen[0], _REF_NAME)
    return ContainerImage(_short_name(name), config, _layers(store.name, config, blobs))


def read_docker_archive(store: FileStore, reference: str) -> ContainerImage:
    """Choose an image of a ``docker save`` archive by its tag, or the only one; raises BuildError."""
    what = f"{store.name}: manifest.json"
    images = parse_json_value(require(store, "manifest.json").read(MAX_JSON), what)
    if not isinstance(images, list) or not all(isinstance(item, dict) for item in images):
        raise BuildError(f"{what} is malformed: expected a list of images.")
    tagged = [
        item for item in images if not reference or reference in _strings(item.get("RepoTags") or [], what)
    ]
    if len(tagged) != 1:
        tags = sorted(tag for item in images for tag in _strings(item.get("RepoTags") or [], what))
        raise BuildError(
            f"{store.name} holds {len(tagged)} images named {reference or 'anything'!r}; "
            f"name one of {', '.join(tags)[:300] or 'none'} as docker-archive:PATH:NAME."
        )
    image = tagged[0]
    layers, tags = _strings(image.get("Layers"), what), _strings(image.get("RepoTags") or [], what)
    (config_name,) = _strings([image.get("Config")], what)
    document = require(store, config_name).read(MAX_JSON)
    config = ImageConfig.from_bytes(document, f"{store.name}: its configuration")
    blobs = [(require(store, layer), None) for layer in layers]
    name = reference or next(iter(tags), "")
    return ContainerImage(_short_name(name), config, _layers(store.name, config, blobs))


def _layers(where: str, config: ImageConfig, blobs: Sequence[tuple[Region, str | None]]) -> tuple[Layer, ...]:
    if len(blobs) != len(config.diff_ids) or len(blobs) > _MAX_LAYERS:
        raise BuildError(
            f"{where} has {len(blobs)} layers, but its configuration names {len(config.diff_ids)}."
        )
    return tuple(
        Layer(blob, digest, diff_id) for (blob, digest), diff_id in zip(blobs, config.diff_ids, strict=True)
    )


def _choose(
    store: FileStore, items: list[dict[str, Any]], architecture: str, depth: int
) -> list[dict[str, Any]]:
    """Return the manifests for this architecture, looking into nested indexes."""
    found = list[dict[str, Any]]()
    for item in items:
        if item.get("mediaType") in _INDEXES:
            if depth == 0:
                raise BuildError(f"{store.name} nests its indexes more than {_MAX_DEPTH} deep.")
            below = _descriptors(_json_blob(store, item).get("manifests"), store.name)
            name = {"annotations": item.get("annotations")} if _annotation(item, _REF_NAME) else {}
            found += [inner | name for inner in _choose(store, below, architecture, depth - 1)]
        elif _matches(item, architecture):
            found.append(item)
    return found


def _matches(item: dict[str, Any], architecture: str) -> bool:
    platform = item.get("platform")
    if not isinstance(platform, dict):
        return True  # the configuration has the last word
    return (platform.get("os"), platform.get("architecture")) == ("linux", _PLATFORMS[architecture])


def _blob(store: FileStore, item: dict[str, Any], *, check: bool = True) -> Region:
    digest = str(item["digest"])
    blob = require(store, "blobs/" + digest.replace(":", "/"))
    if blob.size != item.get("size"):
        raise BuildError(
            f"{store.name}: blob {digest} is {blob.size} bytes long; expected {item.get('size')}."
        )
    if check:
        check_digest(blob, digest, f"{store.name}: blob {digest[7:19]}")
    return blob


def _json_blob(store: FileStore, item: dict[str, Any]) -> dict[str, Any]:
    return parse_json(_blob(store, item).read(MAX_JSON), f"{store.name}: blob {str(item['digest'])[7:19]}")


def _descriptors(value: Any, where: str) -> list[dict[str, Any]]:
    """Check that a list holds descriptors with SHA-256 digests, so that a digest is a safe file name."""
    for item in value if isinstance(value, list) else [None]:
        digest = item.get("digest") if isinstance(item, dict) else None
        algorithm, _, text = digest.partition(":") if isinstance(digest, str) else ("", "", "")
        if algorithm != "sha256" or len(text) != 64 or text.strip("0123456789abcdef"):
            raise BuildError(f"{where} is malformed: a descriptor has no SHA-256 digest.")
    return list(value)


def _annotation(item: dict[str, Any], key: str) -> str:
    annotations = item.get("annotations")
    value = annotations.get(key) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else ""


def _strings(value: Any, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BuildError(f"{what} is malformed: a list of strings was expected in it.")
    return value


def _short_name(reference: str) -> str:
    """Return a reference without tag and digest, as nitro-cli names images."""
    directory, slash, last = reference.partition("@")[0].rpartition("/")
    return directory + slash + last.partition(":")[0]
