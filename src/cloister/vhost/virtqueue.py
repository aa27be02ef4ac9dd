"""One split virtqueue, seen from the device.

Follows virtio 1.2 section 2.7: descriptor chains, indirect tables (2.7.5.3), available and used rings, and
notification suppression with and without VIRTIO_F_EVENT_IDX (2.7.7, 2.7.10). Everything in the rings is the
guest's word: each index, length and address is checked when it is read, and read once.
"""

import struct
import threading
from collections.abc import Callable
from enum import IntFlag
from typing import NamedTuple

from cloister.vhost.faults import DeviceError
from cloister.vhost.memory import GuestMemory
from cloister.vhost.messages import RingAddress

MAX_SIZE = 32768  # virtio 1.2 section 2.7
MAX_CHAIN_BYTES = 1 << 20  # of one chain; the devices here move 64 KiB at most

_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_NO_NOTIFY = _NO_INTERRUPT = 1
_unpack_descriptor = struct.Struct("<QIHH").unpack_from


class Feature(IntFlag):
    """Ring features a device may offer (virtio 1.2 section 6)."""

    INDIRECT_DESC = 1 << 28
    EVENT_IDX = 1 << 29
    VERSION_1 = 1 << 32


class Chain(NamedTuple):
    """A request: its head, what the guest wrote, and where the guest wants the answer.

    A named tuple, not a dataclass: one is made for every packet.
    """

    head: int
    readable: list[memoryview]
    writable: list[memoryview]


class Virtqueue:
    """Takes chains from the guest and gives them back.

    ``pop`` and ``push`` do not tell the guest anything; ``publish`` does, once for a whole burst.
    """

    __slots__ = (
        "_available",
        "_descriptors",
        "_event_idx",
        "_indirect",
        "_memory",
        "_notify",
        "_published",
        "_size",
        "_used",
        "_used_ring",
        "next_available",
        "next_used",
    )

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        address: RingAddress,
        *,
        next_available: int,
        features: int,
        notify: Callable[[], None],
    ) -> None:
        if not 1 <= size <= MAX_SIZE or size & (size - 1):
            raise DeviceError(f"a ring of {size} entries, expected a power of two up to {MAX_SIZE}")
        if address.descriptors % 16 or address.available % 2 or address.used % 4:
            raise DeviceError("the parts of a ring are not aligned as virtio 1.2 section 2.7 asks")
        self._memory = memory
        self._size = size
        self._notify = notify
        self._indirect = bool(features & Feature.INDIRECT_DESC)
        self._event_idx = bool(features & Feature.EVENT_IDX)
        event = 2 if self._event_idx else 0
        self._descriptors = memory.user_view(address.descriptors, 16 * size)
        # Native formats, so that a 16-bit store is one store: struct's "<H" writes byte by byte.
        self._available = memory.user_view(address.available, 4 + 2 * size + event).cast("H")
        used = memory.user_view(address.used, 4 + 8 * size + event)
        self._used = used.cast("H")
        self._used_ring = used[4 : 4 + 8 * size].cast("I")
        self.next_available = next_available & 0xFFFF
        self.next_used = self._published = self._used[1]

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._size

    @property
    def pending(self) -> int:
        """How many chains the guest has made available; raises DeviceError when that is impossible."""
        pending = (self._available[1] - self.next_available) & 0xFFFF
        if pending > self._size:
            raise DeviceError(f"the guest claims {pending} available buffers in a ring of {self._size}")
        return pending

    def pop(self) -> Chain | None:
        """Take the next chain, or None; raises DeviceError when the guest's descriptors make no sense."""
        available = self._available
        pending = (available[1] - self.next_available) & 0xFFFF
        if pending == 0:
            return None
        if pending > self._size:
            raise DeviceError(f"the guest claims {pending} available buffers in a ring of {self._size}")
        head = available[2 + (self.next_available & (self._size - 1))]
        chain = self._walk(head)
        self.next_available = (self.next_available + 1) & 0xFFFF
        return chain

    def unpop(self, count: int) -> None:
        """Put the last ``count`` chains back: they were not needed."""
        self.next_available = (self.next_available - count) & 0xFFFF

    def push(self, head: int, written: int) -> None:
        """Give a chain back with ``written`` bytes in it; the guest learns of it at ``publish``."""
        slot = (self.next_used & (self._size - 1)) << 1
        ring = self._used_ring
        ring[slot] = head
        ring[slot + 1] = written
        self.next_used = (self.next_used + 1) & 0xFFFF

    def publish(self) -> None:
        """Show the guest all that was pushed, and interrupt it if it wants to be."""
        new, old = self.next_used, self._published
        if new == old:
            return
        self._used[1] = new
        self._published = new
        _full_barrier()
        if self._event_idx:
            event = self._available[2 + self._size]
            wanted = ((new - event - 1) & 0xFFFF) < ((new - old) & 0xFFFF)
        else:
            wanted = not self._available[0] & _NO_INTERRUPT
        if wanted:
            self._notify()

    def disarm(self) -> None:
        """Ask the guest not to kick: this queue is being worked on."""
        if not self._event_idx:
            self._used[0] = _NO_NOTIFY

    def arm(self) -> bool:
        """Ask for a kick at the next buffer; return True if one came meanwhile (and no kick may follow)."""
        if self._event_idx:
            self._used[2 + 4 * self._size] = self.next_available
        else:
            self._used[0] = 0
        _full_barrier()
        return self._available[1] != self.next_available

    def _walk(self, head: int) -> Chain:
        readable: list[memoryview] = []
        writable: list[memoryview] = []
        table, entries = self._descriptors, self._size
        index, left, total = head, self._size, 0
        while True:
            if index >= entries:
                raise DeviceError(f"descriptor {index} is outside its table of {entries}")
            address, length, flags, following = _unpack_descriptor(table, index << 4)
            if flags & _INDIRECT:
                table = self._indirect_table(address, length, flags, nested=table is not self._descriptors)
                entries, index = length >> 4, 0
                continue
            total += length
            if total > MAX_CHAIN_BYTES:
                raise DeviceError(f"a descriptor chain holds more than {MAX_CHAIN_BYTES} bytes")
            if flags & _WRITE:
                writable.append(self._memory.view(address, length))
            elif writable:
                raise DeviceError("a readable descriptor follows a writable one")
            else:
                readable.append(self._memory.view(address, length))
            if not flags & _NEXT:
                return Chain(head, readable, writable)
            index = following
            left -= 1
            if left <= 0:
                raise DeviceError(f"a descriptor chain is longer than the ring ({self._size}), or a loop")

    def _indirect_table(self, address: int, length: int, flags: int, *, nested: bool) -> memoryview:
        """Check and return an indirect table (virtio 1.2 section 2.7.5.3.2)."""
        if not self._indirect or nested or flags & _NEXT:
            raise DeviceError("an indirect descriptor that was not negotiated, is nested, or goes on")
        if length == 0 or length % 16 or length >> 4 > self._size:
            raise DeviceError(f"an indirect table of {length} bytes, expected 16 to {16 * self._size}")
        # A copy: the guest must not be able to bend the table while it is being walked.
        return memoryview(bytes(self._memory.view(address, length)))


_lock = threading.Lock()


def _full_barrier() -> None:
    """Order the stores before against the loads after (virtio 1.2 section 2.7.13.3.1).

    Taking and giving an uncontended lock is the one atomic read-modify-write plain Python offers.
    """
    with _lock:
        pass
