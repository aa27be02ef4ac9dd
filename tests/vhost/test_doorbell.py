"""A peer that shares the eventfds cannot hold the back end up with them."""

import asyncio
import os

import pytest

from cloister.devices import NsmDevice
from cloister.vhost import DeviceError, serve_device
from cloister.vhost.doorbell import Doorbell, drain
from simulators.vhost_front_end import FrontEnd, until

FULL = 0xFFFF_FFFF_FFFF_FFFE


def test_reading_never_waits() -> None:
    """An empty eventfd that its other holder made blocking is read at once."""
    file = os.eventfd(0)
    os.set_blocking(file, True)
    drain(file)
    os.eventfd_write(file, 7)
    drain(file)
    os.set_blocking(file, False)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(file)
    os.close(file)


def test_a_full_counter_is_no_error() -> None:
    """While the eventfd is as it was taken over, a full one is an interrupt that is pending anyway."""
    file = os.eventfd(0, os.EFD_NONBLOCK)
    os.eventfd_write(file, FULL)
    bell = Doorbell()
    bell.ring(file)
    assert os.eventfd_read(file) == FULL
    bell.close()
    os.close(file)


def test_a_write_that_blocks_ends_the_device_and_not_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full eventfd made blocking holds a write up for a moment, then it is emptied and the peer refused."""
    monkeypatch.setattr("cloister.vhost.doorbell.GUARD_SECONDS", 0.02)
    file = os.eventfd(0)
    os.set_blocking(file, True)
    os.eventfd_write(file, FULL)
    bell = Doorbell()
    with pytest.raises(DeviceError, match="blocked the eventfd"):
        bell.ring(file)
    bell.close()
    os.close(file)


def test_peer_that_blocks_both_eventfds_loses_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a running device: kick made blocking is served, call made blocking and full ends the device."""
    monkeypatch.setattr("cloister.vhost.doorbell.GUARD_SECONDS", 0.02)

    async def test() -> None:
        front = FrontEnd((8,), memory_size=1 << 20, buffer_size=0x4000)
        task = asyncio.create_task(serve_device(front.back_end, NsmDevice(lambda request: request)))
        front.set_up()
        ring = front.queues[0]
        await until(lambda: not os.get_blocking(ring.call))
        os.set_blocking(ring.kick, True)
        ring.add(b"one", writable=[0x3000])
        ring.notify()
        await until(ring.take_used)
        drain(ring.call)
        os.eventfd_write(ring.call, FULL)
        os.set_blocking(ring.call, True)
        ring.add(b"two", writable=[0x3000])
        ring.notify()
        with pytest.raises(DeviceError, match="blocked the eventfd"):
            await asyncio.wait_for(task, 20)
        front.close()

    asyncio.run(test())
