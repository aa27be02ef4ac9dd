"""Which destinations the proxy may serve: AWS's ``vsock-proxy.yaml``.

Spec: nitro-tools section 7, messages included. An entry allows a destination when the ports are equal and the
address is the same text, or both names lead to a common IP; then only that IP is ever connected to.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from cloister.errors import CloisterError

MAX_FILE = 1 << 20  # bytes
Resolve = Callable[[str], Sequence[str]]


class ProxyError(CloisterError):
    """A destination that is not allowed, a bad allow list, or an address that cannot be used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the allow list."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Destination:
    """An allowed destination."""

    host: str
    port: int
    pinned: str | None = None
    """The one IP that is allowed, when the name itself is not in the list."""


def load_allowlist(path: Path) -> tuple[Entry, ...]:
    """Read and check an allow list; raises ProxyError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ProxyError("Could not open the file") from error
    if len(text) > MAX_FILE:
        raise ProxyError("Bad yaml format")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ProxyError("Bad yaml format") from error
    services = document.get("allowlist") if isinstance(document, dict) else None
    if not isinstance(services, list):
        raise ProxyError("No allowlist field")
    return tuple(_entry(service) for service in services)


def find_destination(entries: Sequence[Entry], host: str, port: int, resolve: Resolve) -> Destination:
    """Return the destination if the list allows it; raises ProxyError.

    ``resolve`` is asked only when the name itself is not in the list; it may raise ProxyError.
    """
    same_port = [entry for entry in entries if entry.port == port]
    if any(entry.address == host for entry in same_port):
        return Destination(host, port)
    if same_port:
        wanted = resolve(host)[0]
        for entry in same_port:
            try:
                found = resolve(entry.address)
            except ProxyError:
                continue  # an entry that does not resolve today allows nothing today
            if wanted in found:
                return Destination(host, port, pinned=wanted)
    raise ProxyError("The given address and port are not allowed")


def resolver(family: socket.AddressFamily) -> Resolve:
    """Return a blocking resolver for one address family, or for both."""

    def resolve(host: str) -> Sequence[str]:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ProxyError("DNS lookup failed!") from error
        accepted = [str(row[4][0]) for row in found if family in (socket.AF_UNSPEC, row[0])]
        if not accepted:
            raise ProxyError("No accepted IP was found.")
        return accepted

    return resolve


def _entry(service: object) -> Entry:
    address = service.get("address") if isinstance(service, dict) else None
    if not isinstance(address, str):
        raise ProxyError("No address field")
    assert isinstance(service, dict)
    port = service.get("port")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 1 << 16:
        raise ProxyError("No port field or invalid type")
    return Entry(address, port)
