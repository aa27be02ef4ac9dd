"""An image's configuration: what it runs, how, and since when.

Spec: OCI image specification 1.1, "config.md" (docker's image JSON is the same document). Combined as OCI
says, the command is ENTRYPOINT followed by CMD; AWS's build-enclave takes CMD, and ENTRYPOINT only without
it (nitro-tools 3).
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from cloister.build.content import BuildError

MAX_JSON: Final = 1 << 20
"""Bytes of a configuration, manifest or index."""
_ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_FRACTION: Final = re.compile(r"(\.[0-9]{6})[0-9]+")
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
"""A time without zone would be another one on each machine, and Python's versions read more than this."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a configuration says, empty where it says nothing."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    created: datetime | None = None
    architecture: str = ""
    """``x86_64`` or ``aarch64``; empty for a bare root file system."""
    identity: str = ""
    """SHA-256 of the configuration, hexadecimal: docker's image id."""
    diff_ids: tuple[str, ...] = ()
    """Digest of each unpacked layer, lowest first."""
    document: Any = None
    """The JSON as it came."""

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> "ImageConfig":
        """Decode; raises BuildError."""
        document = parse_json(data, what)
        inner = _object(document.get("config") or {}, what)
        architecture = document.get("architecture")
        if architecture not in _ARCHITECTURES:
            raise BuildError(f"{what} is for the architecture {architecture!r}; expected amd64 or arm64.")
        if document.get("os", "linux") != "linux":
            raise BuildError(f"{what} is for the operating system {document.get('os')!r}; expected linux.")
        rootfs = _object(document.get("rootfs"), what)
        return cls(
            entrypoint=_words(inner.get("Entrypoint"), what, "Entrypoint"),
            cmd=_words(inner.get("Cmd"), what, "Cmd"),
            env=_words(inner.get("Env"), what, "Env"),
            workdir=_word(inner.get("WorkingDir"), what, "WorkingDir"),
            user=_word(inner.get("User"), what, "User"),
            created=_time(_word(document.get("created"), what, "created"), what),
            architecture=_ARCHITECTURES[architecture],
            identity=hashlib.sha256(data).hexdigest(),
            diff_ids=_words(rootfs.get("diff_ids"), what, "diff_ids"),
            document=document,
        )

    def overridden(
        self,
        *,
        cmd: Sequence[str] | None = None,
        env: Sequence[str] = (),
        entrypoint: Sequence[str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
    ) -> "ImageConfig":
        """Return it with what is given in place of the image's own, as container engines combine the two.

        Another ENTRYPOINT does not get the image's CMD, which was written for the old one; variables are
        replaced in place or appended. Raises BuildError.
        """
        merged = {item.partition("=")[0]: item for item in (*self.env, *env)}
        for item in env:
            if not item.partition("=")[0] or "=" not in item:
                raise BuildError(f"The variable {item!r} has no name and value; expected NAME=VALUE.")
        inherited = self.cmd if entrypoint is None else ()
        return replace(
            self,
            entrypoint=self.entrypoint if entrypoint is None else tuple(entrypoint),
            cmd=inherited if cmd is None else tuple(cmd),
            env=tuple(merged.values()),
            workdir=_directory(self.workdir if workdir is None else workdir),
            user=self.user if user is None else user,
        )

    def command(self, *, like_aws: bool) -> tuple[str, ...]:
        """Return what to run; raises BuildError when there is nothing."""
        words = (self.cmd or self.entrypoint) if like_aws else (*self.entrypoint, *self.cmd)
        if not words or not words[0]:
            raise BuildError("The image names no command to run; 'cloister image build --cmd' gives it one.")
        return words

    def inspect(self) -> dict[str, Any] | None:
        """Return what ``docker inspect`` would say of the image itself, whatever machine it is on."""
        if self.document is None:
            return None
        return {
            "Id": f"sha256:{self.identity}",
            "Created": self.document.get("created"),
            "Architecture": self.document.get("architecture"),
            "Os": self.document.get("os"),
            "Config": self.document.get("config"),
            "RootFS": {"Type": "layers", "Layers": list(self.diff_ids)},
        }


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Decode an object of JSON; raises BuildError."""
    return _object(parse_json_value(data, what), what)


def parse_json_value(data: bytes, what: str) -> Any:
    """Decode JSON; raises BuildError."""
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise BuildError(f"{what} is not JSON: {error}.") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BuildError(f"{what} is malformed: an object was expected in it.")
    return value


def _words(value: Any, what: str, key: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BuildError(f"{what} is malformed: {key} is not a list of strings.")
    return tuple(value)


def _word(value: Any, what: str, key: str) -> str:
    if not isinstance(value, str | None):
        raise BuildError(f"{what} is malformed: {key} is not a string.")
    return value or ""


def _directory(path: str) -> str:
    """Return a working directory without detours, as Docker cleans it; raises BuildError."""
    if path and not path.startswith("/"):
        raise BuildError(f"The image's working directory is {path[:100]!r}; expected an absolute path.")
    return posixpath.normpath("/" + path.lstrip("/")) if path else ""


def _time(text: str, what: str) -> datetime | None:
    """Read RFC 3339 with nanoseconds, as Go writes it."""
    if not text:
        return None
    if _RFC3339.fullmatch(text):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(_FRACTION.sub(r"\1", text.upper())).astimezone(UTC)
    raise BuildError(f"{what} is malformed: created is {text[:40]!r}, which is not a time.")
