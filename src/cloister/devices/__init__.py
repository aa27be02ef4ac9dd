"""The enclave's devices and its addresses on the host: pure machines joined to ``vhost`` and to sockets."""

from cloister.devices.mux import serve_mux
from cloister.devices.network import CidError, Claim, HostNetwork
from cloister.devices.nsm import NsmDevice
from cloister.devices.vsock import VsockDevice

__all__ = ["CidError", "Claim", "HostNetwork", "NsmDevice", "VsockDevice", "serve_mux"]
