"""One package of an archive, and what ``apt-get --print-uris`` says about it."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from cloister.errors import CloisterError


class PackageError(CloisterError):
    """The archive, a package or an unpacking tool did not give what was asked for."""


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package pinned to its bytes."""

    name: str
    version: str
    architecture: str
    uri: str
    filename: str
    size: int
    """In bytes."""
    sha256: str


# 'http://host/pool/main/a/acl/libacl1_2.3.2-2_amd64.deb' libacl1_2.3.2-2_amd64.deb 32848 SHA256:9f…
_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<filename>\S+) (?P<size>\d+) (?P<hash>\S*)")
_FILENAME = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]+)_(?P<version>[^_/]+)_(?P<architecture>[a-z0-9-]+)\.deb"
)


def parse_uri_line(line: str) -> Package:
    """Read one line of ``apt-get --print-uris``; PackageError unless it is pinned by SHA-256."""
    match = _LINE.fullmatch(line.strip())
    named = _FILENAME.fullmatch(match["filename"]) if match else None
    if match is None or named is None:
        raise PackageError(
            f"apt-get printed {line.strip()[:200]!r} where the address of a package was expected"
        )
    kind, _, digest = match["hash"].partition(":")
    if kind != "SHA256" or re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        raise PackageError(
            f"the archive's index gives no SHA-256 for {match['filename']}, got {match['hash']!r}"
        )
    return Package(
        name=named["name"],
        version=unquote(named["version"]),
        architecture=named["architecture"],
        uri=match["uri"],
        filename=match["filename"],
        size=int(match["size"]),
        sha256=digest,
    )
