"""A Docker daemon, asked over its socket whether it has an image, and for that image.

Spec: Docker Engine API, ``GET /_ping``, ``/images/{name}/json`` and ``/images/{name}/get``. Asked
directly, in the version that the daemon itself announces: skopeo insists on one that current daemons no
longer speak (decision 0141).
"""

import http.client
import json
import re
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cloister.fetch.limits import LONGEST_SECONDS, MAX_BYTES, SILENT_SECONDS, FetchError, Progress

DEFAULT_SOCKET: Final = "/var/run/docker.sock"
_PING_SECONDS: Final = 5.0
_MAX_JSON: Final = 4 << 20
_CHUNK: Final = 1 << 20
_HOST: Final = re.compile(
    r"tcp://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})/?", re.ASCII
)


class NoDaemonError(FetchError):
    """No Docker daemon answers."""


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class DockerDaemon:
    """Where a daemon listens, and the version of the API it speaks."""

    address: str
    """``unix://PATH`` or ``tcp://HOST:PORT``."""
    version: str

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> "DockerDaemon":
        """Return the daemon that answers where DOCKER_HOST says; raises NoDaemonError or FetchError."""
        address = environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"
        if not address.startswith("unix://") and _HOST.fullmatch(address) is None:
            raise FetchError(
                f"DOCKER_HOST is {address[:100]!r}; expected unix://PATH or tcp://HOST:PORT. "
                "Use docker://, containers-storage: or a file to do without a daemon."
            )
        daemon = cls(address, "")
        try:
            with closing(daemon._connect(_PING_SECONDS)) as connection:
                answer = daemon._get(connection, "/_ping")
                version = answer.getheader("Api-Version", "")
        except (OSError, http.client.HTTPException) as error:
            raise NoDaemonError(f"no Docker daemon answers at {address}: {_reason(error)}") from error
        if answer.status != http.HTTPStatus.OK or re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", version) is None:
            raise NoDaemonError(f"what answers at {address} is no Docker daemon")
        return cls(address, version)

    def size_of(self, name: str) -> int | None:
        """Return an image's size in bytes, 0 if it is not told, None without it; raises FetchError."""
        try:
            with closing(self._connect(SILENT_SECONDS)) as connection:
                answer = self._get(connection, f"/v{self.version}/images/{quote(name, safe='/:@')}/json")
                body = answer.read(_MAX_JSON)
        except (OSError, http.client.HTTPException) as error:
            raise FetchError(f"The Docker daemon at {self.address} broke off: {_reason(error)}.") from error
        if answer.status == http.HTTPStatus.NOT_FOUND:
            return None
        if answer.status != http.HTTPStatus.OK:
            raise FetchError(
                f"The Docker daemon at {self.address} answers {_complaint(answer.status, body)}."
            )
        try:
            size = json.loads(body)["Size"]
        except (ValueError, RecursionError, LookupError, TypeError):
            return 0
        return size if isinstance(size, int) and size >= 0 else 0

    def export(self, name: str, archive: Path, size: int, progress: Progress) -> None:
        """Write an image as ``docker save`` does; raises FetchError."""
        begun, done = time.monotonic(), 0
        try:
            with closing(self._connect(SILENT_SECONDS)) as connection, archive.open("xb") as file:
                answer = self._get(connection, f"/v{self.version}/images/{quote(name, safe='/:@')}/get")
                if answer.status != http.HTTPStatus.OK:
                    complaint = _complaint(answer.status, answer.read(_MAX_JSON))
                    raise FetchError(f"The Docker daemon at {self.address} answers {complaint}.")
                while chunk := answer.read1(_CHUNK):
                    done += file.write(chunk)
                    progress(f"fetching {name} from the Docker daemon", done, max(size, done))
                    if done > MAX_BYTES or time.monotonic() - begun > LONGEST_SECONDS:
                        raise FetchError(
                            f"The Docker daemon's {name} is too big or takes too long: {done} bytes."
                        )
        except (OSError, http.client.HTTPException) as error:
            raise FetchError(
                f"{name} cannot be had from the Docker daemon at {self.address}: {_reason(error)}."
            ) from error

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if match := _HOST.fullmatch(self.address):
            return http.client.HTTPConnection(match["host"].strip("[]"), int(match["port"]), timeout=timeout)
        return _SocketConnection(self.address.removeprefix("unix://"), timeout)

    @staticmethod
    def _get(connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
        connection.request("GET", path, headers={"User-Agent": "cloister", "Connection": "close"})
        return connection.getresponse()


def _complaint(status: int, body: bytes) -> str:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, RecursionError, LookupError, TypeError):
        return str(status)
    return f"{status}: {''.join(char for char in message[:300] if char.isprintable())}"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
