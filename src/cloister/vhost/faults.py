"""What ends a device: a guest or a peer that breaks the protocol."""

from cloister.errors import CloisterError


class DeviceError(CloisterError):
    """A guest or a vhost-user peer did what no correct one does: the device is over, the process is not."""
