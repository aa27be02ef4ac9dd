"""The metadata section: what an image says of itself, in JSON. It is not measured: decide nothing by it.

Spec: nitro-tools 2.4. One key is ours, ``KitDigest``, at the top level where AWS's readers ignore what they
do not know (decision 0021).
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from cloister.eif.header import EifError

MAX_METADATA: Final = 1 << 20
"""Bytes; ``docker inspect`` of a large image is some tens of kilobytes."""
MAX_DEPTH: Final = 64
_BUILD_KEYS: Final = ("BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion")


@dataclass(frozen=True, slots=True)
class BuildMetadata:
    """Who built the image, when, and around which kernel."""

    build_time: str
    """RFC 3339 with ``+00:00``."""
    build_tool: str
    build_tool_version: str
    operating_system: str = "Linux"
    kernel_version: str = "Unknown"


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """The whole section; ``docker_info`` and ``custom`` are JSON as it came."""

    image_name: str
    image_version: str
    build: BuildMetadata
    docker_info: Any = None
    custom: Any = None
    kit_digest: str | None = None
    """SHA-256 of the guest kit, hexadecimal."""

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> "ImageMetadata":
        """Decode; raises EifError."""
        if len(data) > MAX_METADATA:
            raise EifError(f"The EIF's metadata is {len(data)} bytes long; expected at most {MAX_METADATA}.")
        try:
            text = bytes(data).decode()
            top = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
            _check_depth(top)
            if "\\u" in text:  # half a surrogate pair is no character, and no writer can write it
                json.dumps(top, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise EifError(f"The EIF's metadata is not JSON: {error}.") from None
        build = _strings(_object(top, "the metadata").get("BuildMetadata"), "BuildMetadata", _BUILD_KEYS)
        name, version = _strings(top, "the metadata", ("ImageName", "ImageVersion"))
        kit_digest = top.get("KitDigest")
        if not isinstance(kit_digest, str | None):
            raise EifError("The EIF's metadata has a KitDigest that is not a string.")
        return cls(
            name, version, BuildMetadata(*build), top.get("DockerInfo"), top.get("CustomMetadata"), kit_digest
        )

    def to_bytes(self) -> bytes:
        """Encode compactly, keys in AWS's order; raises EifError when it would be too large to read back.

        Inside ``docker_info`` and ``custom`` that order is the alphabet's, as serde_json's maps have it
        (tried with image-format 0.8.1): the bytes depend on what is said and not on who said it.
        """
        build = (
            self.build.build_time,
            self.build.build_tool,
            self.build.build_tool_version,
            self.build.operating_system,
            self.build.kernel_version,
        )
        top = {
            "ImageName": self.image_name,
            "ImageVersion": self.image_version,
            "BuildMetadata": dict(zip(_BUILD_KEYS, build, strict=True)),
            "DockerInfo": self.docker_info,
            "CustomMetadata": self.custom,
        }
        if self.kit_digest is not None:
            top["KitDigest"] = self.kit_digest
        _check_depth(top)
        try:
            top |= {key: _sorted(top[key]) for key in ("DockerInfo", "CustomMetadata")}
            data = json.dumps(top, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except (ValueError, TypeError) as error:
            raise EifError(f"The metadata cannot be written as JSON: {error}.") from error
        if len(data) > MAX_METADATA:
            raise EifError(f"The metadata would be {len(data)} bytes long; expected at most {MAX_METADATA}.")
        return data


def _sorted(value: Any) -> Any:
    """Return JSON with every object's keys in order; the caller has bounded the depth."""
    match value:
        case dict():
            return {key: _sorted(value[key]) for key in sorted(value)}
        case list():
            return [_sorted(item) for item in value]
    return value


def _check_depth(top: Any) -> None:
    """Refuse what a recursive JSON writer would later stumble over; raises EifError."""
    level, depth = [top] if isinstance(top, dict | list) else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise EifError(f"The EIF's metadata is nested more than {MAX_DEPTH} deep.")
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [value for values in inner for value in values if isinstance(value, dict | list)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    """Read a number; what is beyond a double would be written as Infinity, which is no JSON."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is beyond what a number can be")
    return number


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EifError(f"The EIF's metadata is malformed: {what} is not an object.")
    return value


def _strings(value: Any, what: str, keys: tuple[str, ...]) -> list[str]:
    found = [_object(value, what).get(key) for key in keys]
    for key, item in zip(keys, found, strict=True):
        if not isinstance(item, str):
            raise EifError(
                f"The EIF's metadata is malformed: {key} is {'missing' if item is None else 'not a string'}."
            )
    return [item for item in found if isinstance(item, str)]
