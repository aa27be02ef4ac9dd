"""Signals for whoever runs something in the foreground: the first asks it to end, the second kills it.

Handlers send the signals themselves, so that they work whatever this process is waiting for. A request that
is obeyed too slowly, and the time limit, come as SIGALRM (setitimer(2)).
"""

import os
import select
import signal
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

from cloister.running.ending import SIGNAL_BASE, TIMED_OUT

GRACE_SECONDS: Final = 10.0
"""Between asking and killing; docker-stop(1) waits as long."""
_HANDLED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM)


class Signals:
    """Installed as a context manager; aimed at one process at a time."""

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        """In order; SIGALRM stands for the time limit, SIGPIPE for an output that was closed."""
        self._target: int | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._ear, self._mouth = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def ear(self) -> int:
        """A descriptor that can be read once a signal has come."""
        return self._ear

    @property
    def exit_code(self) -> int | None:
        """What the first signal makes of this command's end; None when there was none."""
        if not self.received:
            return None
        first = self.received[0]
        return TIMED_OUT if first == signal.SIGALRM else SIGNAL_BASE + first

    def limit(self, seconds: float) -> None:
        """Set the time limit, counted from now."""
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))

    def aim(self, pidfd: int | None) -> None:
        """Say which process to end; it gets at once what has been received before."""
        self._target = pidfd
        if self.received:
            self._send()

    def receive(self, number: signal.Signals) -> None:
        """Act as if a signal had come."""
        self.received.append(number)
        if len(self.received) == 1:
            self.limit(GRACE_SECONDS)
        with suppress(OSError):
            os.write(self._mouth, b"!")
        self._send()

    def pause(self, seconds: float) -> bool:
        """Sleep unless a signal comes or has come; say whether the time passed."""
        return not select.select([self._ear], [], [], seconds)[0]

    def __enter__(self) -> Self:
        for number in _HANDLED:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        for fd in (self._ear, self._mouth):
            os.close(fd)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.receive(signal.Signals(number))

    def _send(self) -> None:
        if self._target is not None:
            number = signal.SIGTERM if len(self.received) == 1 else signal.SIGKILL
            with suppress(OSError):  # it may be over
                signal.pidfd_send_signal(self._target, number)
