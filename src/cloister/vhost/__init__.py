"""vhost-user: a device in this process for a virtual machine in another.

Messages, guest memory, split virtqueues and the back end's loop. The vhost-user protocol specification and
virtio 1.2 section 2.7; no migration, no packed rings, no IOMMU.
"""

from cloister.vhost.backend import Device, serve_device
from cloister.vhost.faults import DeviceError
from cloister.vhost.memory import GuestMemory
from cloister.vhost.messages import MemoryRegion
from cloister.vhost.virtqueue import Chain, Feature, Virtqueue

__all__ = [
    "Chain",
    "Device",
    "DeviceError",
    "Feature",
    "GuestMemory",
    "MemoryRegion",
    "Virtqueue",
    "serve_device",
]
