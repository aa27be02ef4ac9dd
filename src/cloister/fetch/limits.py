"""What may be asked of a fetch, how long and how big it may become, and how it fails."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.errors import CloisterError

MAX_BYTES: Final = 40 << 30
"""Of everything in a workspace: stored layers, a daemon's archive, a tool's temporary files.

The builder takes 16 GiB of unpacked layers, and skopeo writes those of a container store twice.
"""
SILENT_SECONDS: Final = 300.0
"""Without a byte more, and without a word."""
BUILD_SILENT_SECONDS: Final = 3600.0
"""The same for a Dockerfile, whose steps may compile for long and say nothing."""
LONGEST_SECONDS: Final = 6 * 3600.0
"""Of one child process or one answer, however busy it looks."""

Progress = Callable[[str, int, int], None]
"""Told what is going on, how many bytes are done, and how many there are (0 when nobody knows)."""
PULLS: Final = ("missing", "always", "never")


class FetchError(CloisterError):
    """An image cannot be had."""


class ContainerfileError(CloisterError):
    """A Dockerfile cannot be built."""


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """What a user may say about fetching; the defaults are the tools' own configuration."""

    pull: str = "missing"
    """``missing``: a bare name's registry is asked last; ``always``: it alone; ``never``: not at all."""
    authfile: Path | None = None
    """Registry credentials, containers-auth.json(5); default: where skopeo looks."""
    tls_verify: bool | None = None
    """Whether a registry must speak HTTPS with a known certificate; default: registries.conf(5)."""
