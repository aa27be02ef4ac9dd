"""What images elsewhere are called, and where a name without a place is looked for.

Spec: containers-transports(5) for the prefixes; the distribution project's reference grammar for names, with
Docker's reading of short ones (``hello`` is ``docker.io/library/hello:latest``), as nitro-cli has it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.fetch.limits import FetchError

MAX_NAME: Final = 1024
"""Characters, prefix included."""
_PREFIXES: Final = ("docker://", "docker-daemon:", "containers-storage:")
_LOCAL: Final = ("dir:", "tar:", "oci:", "oci-archive:", "docker-archive:")
_PATHS: Final = ("/", "./", "../", "~")
"""How a source begins that is a path, whether or not there is anything."""
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    r"(?:(?P<host>(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)/)?"
    rf"(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


def is_local(source: str) -> bool:
    """Whether a source says by its prefix that it is a file or directory of this host."""
    return source.startswith(_LOCAL)


def image_named(source: str) -> "ImageName | None":
    """Return the image's name if a source has to be fetched: by its prefix, or as nothing here has that name.

    Raises FetchError when a prefix is followed by no image's name.
    """
    if source.startswith(_PREFIXES):
        return ImageName.parse(source)
    if len(source) > MAX_NAME or is_local(source) or source.startswith(_PATHS) or Path(source).exists():
        return None
    try:
        return ImageName.parse(source)
    except FetchError:
        return None  # the builder says that there is no such file


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image's name as the user wrote it, taken apart."""

    text: str
    transport: str
    """``docker``, ``docker-daemon``, ``containers-storage``, or empty: to be looked for."""
    name: str
    """What follows the prefix."""

    @classmethod
    def parse(cls, text: str) -> "ImageName":
        """Read a prefixed or bare name; raises FetchError."""
        if len(text) > MAX_NAME or not text.isprintable() or " " in text:
            raise FetchError(f"{text[:100]!r} is no image's name.")
        for prefix in _PREFIXES:
            if text.startswith(prefix):
                name = cls(text, prefix.rstrip(":/"), text.removeprefix(prefix))
                break
        else:
            name = cls(text, "", text)
        # the store's own prefix, [driver@root+run], and its @ids are for skopeo to read
        if name.transport != "containers-storage" and _REFERENCE.fullmatch(name.name) is None:
            raise FetchError(
                f"{text[:100]!r} is no image's name; expected [HOST[:PORT]/]NAME[:TAG], NAME in lower case."
            )
        return name

    @property
    def in_registry(self) -> str:
        """The whole name: host, path, and digest or tag; the digest wins over a tag, as Docker has it."""
        return self._with(self._host or "docker.io")

    @property
    def in_storage(self) -> tuple[str, ...]:
        """What a container store may know the image as; buildah keeps its own short names under localhost.

        The store's own notation, with a driver before the name or with an id, is left as it is.
        """
        if _REFERENCE.fullmatch(self.name) is None:
            return (self.name,)
        hosts = (self._host,) if self._host else ("localhost", "docker.io")
        return tuple(self._with(host) for host in hosts)

    @property
    def as_built(self) -> str:
        """What buildah calls an image that is built under this name."""
        return self.in_storage[0]

    @property
    def short(self) -> str:
        """The name without place, tag and digest; empty for a store's bare ids."""
        name = self.name.rpartition("]")[2] if self.transport == "containers-storage" else self.name
        plain = name.partition("@")[0]
        directory, slash, last = plain.rpartition("/")
        return directory + slash + last.partition(":")[0]

    @property
    def _host(self) -> str:
        match = _REFERENCE.fullmatch(self.name)
        host = (match and match["host"]) or ""
        return host if "." in host or ":" in host or host == "localhost" else ""

    def _with(self, host: str) -> str:
        match = _REFERENCE.fullmatch(self.name)
        assert match is not None, self.name
        path: str = match["path"]
        if not self._host and match["host"]:
            path = f"{match['host']}/{path}"
        if host == "docker.io" and "/" not in path:
            path = f"library/{path}"
        version = f"@{match['digest']}" if match["digest"] else f":{match['tag'] or 'latest'}"
        return f"{host}/{path}{version}"
