"""vsock-proxy: an allow list and a pipe from a vsock port of the parent to one TCP destination."""

from cloister.proxy.allowlist import (
    Destination,
    Entry,
    ProxyError,
    find_destination,
    load_allowlist,
    resolver,
)
from cloister.proxy.proxy import Proxy

__all__ = ["Destination", "Entry", "Proxy", "ProxyError", "find_destination", "load_allowlist", "resolver"]
