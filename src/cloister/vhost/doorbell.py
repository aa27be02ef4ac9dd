"""Interrupting the guest without ever being held up by who else holds the eventfd.

An eventfd's flags belong to the open file, which QEMU shares: one that has been taken over may fill the
counter and make it blocking again. Reads can refuse to wait (preadv2's RWF_NOWAIT); writes cannot, so a
guard empties one that a write has been stuck in. See decision 97.
"""

import os
import threading
from contextlib import suppress
from typing import Final

from cloister.vhost.faults import DeviceError

GUARD_SECONDS: Final = 1.0
"""A write that takes longer than this, and at most twice it, is stuck."""


class Doorbell:
    """Writes to eventfds of one vhost-user connection; ``close`` ends the guard."""

    def __init__(self) -> None:
        self._rung = 0  # odd during a write
        self._file = -1
        self._was_stuck = False
        self._closing = threading.Event()
        self._guard: threading.Thread | None = None

    def ring(self, file: int) -> None:
        """Add one to an eventfd; raises DeviceError when its other holder made that block."""
        if self._guard is None:
            self._guard = threading.Thread(target=self._watch, name="doorbell", daemon=True)
            self._guard.start()
        self._file = file
        self._rung += 1
        try:
            os.eventfd_write(file, 1)
        except BlockingIOError:
            pass  # a full counter is an interrupt that is pending anyway
        finally:
            self._rung += 1
        if self._was_stuck:
            raise DeviceError("the peer blocked the eventfd by which its guest is interrupted")

    def close(self) -> None:
        """Let the guard go."""
        self._closing.set()
        if self._guard is not None:
            self._guard.join()

    def _watch(self) -> None:
        seen = 0
        while not self._closing.wait(GUARD_SECONDS):
            rung = self._rung
            if rung & 1 and rung == seen:
                self._was_stuck = True
                drain(self._file)
            seen = rung


def drain(file: int) -> None:
    """Take what is in an eventfd's counter without waiting, whatever its flags say."""
    with suppress(BlockingIOError):
        os.preadv(file, [bytearray(8)], -1, os.RWF_NOWAIT)
