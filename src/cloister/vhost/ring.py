"""What the peer has said about one ring, and the virtqueue once it has said enough.

Follows the vhost-user protocol, "Ring states": a ring runs when it has an address, a kick and is enabled.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cloister.vhost.doorbell import Doorbell, drain
from cloister.vhost.faults import DeviceError
from cloister.vhost.memory import GuestMemory
from cloister.vhost.messages import RingAddress
from cloister.vhost.virtqueue import Virtqueue


class QueueUser(Protocol):
    """The part of a device that a ring talks to."""

    def queue_started(self, index: int, queue: Virtqueue, /) -> None:
        """Use a queue from now on; called again with a new one when the guest's memory is remapped."""

    def queue_stopped(self, index: int, /) -> None:
        """Leave a queue alone from now on."""

    def kicked(self, index: int, /) -> None:
        """Look at a queue: the guest put something into it."""


class Ring:
    """One ring's settings, eventfds and virtqueue."""

    def __init__(
        self,
        index: int,
        device: QueueUser,
        memory: GuestMemory,
        loop: asyncio.AbstractEventLoop,
        *,
        fail: Callable[[DeviceError], None],
        doorbell: Doorbell,
    ) -> None:
        self.index = index
        self.size = 0
        self.base = 0
        self.features = 0
        self.enabled = False
        self._device = device
        self._memory = memory
        self._loop = loop
        self._fail = fail
        self._doorbell = doorbell
        self._address: RingAddress | None = None
        self._kick: int | None = None
        self._call: int | None = None
        self._queue: Virtqueue | None = None

    def set_address(self, address: RingAddress) -> None:
        """Remember where the ring is; takes effect when the ring starts."""
        self._address = address
        self.start_if_ready()

    def set_kick(self, file: int | None) -> None:
        """Take over the eventfd by which the guest kicks; the ring starts with it."""
        self.stop()
        if file is None:
            raise DeviceError("the peer asks for a polled ring, expected a kick eventfd")
        _check_eventfd(file)
        if self._kick is not None:
            os.close(self._kick)
        self._kick = file
        self.start_if_ready()

    def set_call(self, file: int | None) -> None:
        """Take over the eventfd by which the guest is interrupted."""
        if file is not None:
            _check_eventfd(file)
        if self._call is not None:
            os.close(self._call)
        self._call = file

    def set_enabled(self, enabled: bool) -> None:
        """Start or stop without forgetting anything."""
        self.enabled = enabled
        if enabled:
            self.start_if_ready()
        else:
            self.stop()

    def start_if_ready(self) -> None:
        """Start once address, kick and permission are there; raises DeviceError for an impossible ring."""
        if self._queue is not None or self._kick is None or self._address is None or not self.enabled:
            return
        self._make_queue(self._address)
        self._loop.add_reader(self._kick, self._kicked)

    def remap(self) -> None:
        """Go on in new mappings of the guest's memory; raises DeviceError when the ring is not in them."""
        if self._queue is not None and self._address is not None:
            self.base = self._queue.next_available
            self._make_queue(self._address)

    def stop(self, *, forget_kick: bool = False) -> int:
        """Stop the queue and return the index of the next available entry."""
        if self._queue is not None:
            assert self._kick is not None
            self._loop.remove_reader(self._kick)
            self.base = self._queue.next_available
            self._queue = None
            self._device.queue_stopped(self.index)
        if forget_kick and self._kick is not None:
            os.close(self._kick)
            self._kick = None
        return self.base

    def close(self) -> None:
        """Stop and let go of both eventfds."""
        self.stop(forget_kick=True)
        self.set_call(None)

    def _make_queue(self, address: RingAddress) -> None:
        self._queue = Virtqueue(
            self._memory,
            self.size,
            address,
            next_available=self.base,
            features=self.features,
            notify=self._interrupt,
        )
        self._device.queue_started(self.index, self._queue)
        self._loop.call_soon(self._catch_up, self._queue)

    def _catch_up(self, queue: Virtqueue) -> None:
        """Look once without a kick: buffers may have been there before the ring started."""
        if self._queue is queue:
            self._serve()

    def _kicked(self) -> None:
        assert self._kick is not None
        drain(self._kick)
        self._serve()

    def _serve(self) -> None:
        try:
            self._device.kicked(self.index)
        except DeviceError as error:
            self._fail(error)

    def _interrupt(self) -> None:
        if self._call is not None:
            self._doorbell.ring(self._call)


def _check_eventfd(file: int) -> None:
    """Take nothing but an eventfd: writing to anything else could block or do harm."""
    if str(Path(f"/proc/self/fd/{file}").readlink()) != "anon_inode:[eventfd]":
        os.close(file)
        raise DeviceError("the peer sent a kick or call file that is no eventfd")
    os.set_blocking(file, False)
