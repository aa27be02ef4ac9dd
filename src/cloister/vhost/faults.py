"""What ends a device: a guest or a peer that breaks the protocol."""

from cloister.errors import CloisterError


class DeviceError(CloisterError):
    """The guest or the vhost-user peer did something no correct one does; the device is over, the process is not."""
