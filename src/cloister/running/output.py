"""Standard output for a console's bytes: never waited for, and known to be closed before it is written to."""

import os
import select
from typing import Final

PIECE: Final = select.PIPE_BUF
"""What a pipe that is ready takes without blocking (pipe(7))."""
MAX_PENDING: Final = 1 << 16


class Output:
    """Bytes on their way to a descriptor, which belongs to the caller."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.received = 0
        """Bytes that were put, since it was last set to zero."""
        self.is_closed = False
        """Whether nobody reads any more."""
        self._pending = bytearray()

    @property
    def has_room(self) -> bool:
        """Whether more may be put."""
        return len(self._pending) < MAX_PENDING and not self.is_closed

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._pending

    @property
    def interest(self) -> int:
        """What to poll the descriptor for; a closed reader is told in any case (poll(2), POLLERR)."""
        return select.POLLOUT if self._pending else 0

    def put(self, content: bytes) -> None:
        """Take bytes to be written."""
        self.received += len(content)
        self._pending += content

    def ready(self, events: int) -> None:
        """Write after a poll said so; notices a reader that is gone."""
        if events & (select.POLLERR | select.POLLNVAL):
            self._close()
        elif events & select.POLLOUT and self._pending:
            try:
                count = os.write(self.fd, self._pending[:PIECE])
            except BlockingIOError:
                return
            except OSError:  # the pipe is closed, the terminal gone, the disk full
                self._close()
                return
            del self._pending[:count]

    def _close(self) -> None:
        self.is_closed = True
        self._pending.clear()
