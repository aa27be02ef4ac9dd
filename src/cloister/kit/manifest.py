"""A guest kit: the kernel, init and command line that images are built from, and its manifest.

The manifest is canonical JSON (sorted keys, no spaces, ASCII); a kit's digest is the SHA-256 of its bytes, so
the digest pins every file, the sources and the compiler they were made with.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cloister.errors import CloisterError

FORMAT = 1
FILES = ("cmdline", "init", "kernel", "kernel.config")
"""The files of a kit, all of them always there."""
MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 16
ARCHITECTURES = ("aarch64", "x86_64")


class KitError(CloisterError):
    """A kit cannot be built, read or moved."""


class KitMissingError(KitError):
    """There is no kit for an architecture on this host."""


@dataclass(frozen=True, slots=True)
class KitManifest:
    """What a kit consists of and where it came from."""

    architecture: str
    kernel_version: str
    source_package: str
    source_version: str
    source_sha256: str
    compiler: str
    files: Mapping[str, str]
    """SHA-256 of each file, by name."""
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """Write the canonical form."""
        fields = asdict(self) | {"files": dict(self.files)}
        return (json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True) + "\n").encode()

    @property
    def digest(self) -> str:
        """The kit's name: SHA-256 of the canonical form."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, text: bytes) -> "KitManifest":
        """Read a manifest strictly; KitError if it is not exactly what :meth:`to_bytes` writes."""
        try:
            fields = json.loads(text)
            manifest = cls(**fields)
            sound = (
                type(manifest.format) is int
                and manifest.format == FORMAT
                and manifest.architecture in ARCHITECTURES
                and tuple(sorted(manifest.files)) == FILES
                and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in manifest.files.values())
                and all(
                    isinstance(value, str)
                    for name, value in fields.items()
                    if name not in ("files", "format")
                )
                and manifest.to_bytes() == text
            )
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise KitError(f"the kit's manifest is not readable: {error}") from error
        if not sound:
            raise KitError(f"the kit's manifest is not in the canonical form of format {FORMAT}")
        return manifest


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit on disk."""

    directory: Path
    manifest: KitManifest

    @property
    def architecture(self) -> str:
        """``x86_64`` or ``aarch64``."""
        return self.manifest.architecture

    @property
    def kernel(self) -> Path:
        """The kernel image that goes into an image: a bzImage on x86_64, a flat Image on aarch64."""
        return self.directory / "kernel"

    @property
    def init(self) -> Path:
        """The static init."""
        return self.directory / "init"

    @property
    def cmdline(self) -> str:
        """The kernel command line, without a newline."""
        return (self.directory / "cmdline").read_text(encoding="ascii")

    @property
    def kernel_version(self) -> str:
        """The kernel's version, such as ``6.12.117``."""
        return self.manifest.kernel_version

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, in hexadecimal."""
        return self.manifest.digest

    def verify(self) -> None:
        """Hash every file; KitError names the first that is missing or not what the manifest says."""
        for name, digest in self.manifest.files.items():
            path = self.directory / name
            if not path.is_file():
                raise KitError(f"kit {self.digest[:12]} is damaged: {name} is missing")
            if file_digest(path) != digest:
                raise KitError(f"kit {self.digest[:12]} is damaged: {name} does not have SHA-256 {digest}")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
