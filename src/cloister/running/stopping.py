"""Ending enclaves: asked first, then signalled, then killed; needs only the register and processes."""

import select
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cloister.control import NOT_PERMITTED, TERMINATE, Record, Register, Request, ask
from cloister.places import Places
from cloister.running.watching import supervisor_of

KILLED_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of one enclave that was to end."""

    entry: Record
    how: str
    """``stopped``, ``killed``, ``refused`` (another user's), or ``alive``."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.how in ("stopped", "killed")


def stop_enclaves(places: Places, entries: Sequence[Record], seconds: float) -> list[Stopped]:
    """End enclaves and remove what killed ones left.

    Each has so many seconds to obey the request, and then the same again to obey SIGTERM.
    """
    answers = ask(places.run, entries, Request(TERMINATE), seconds=seconds)
    stopped = []
    for answer in answers:
        if answer.reply is not None and answer.reply.status == NOT_PERMITTED:
            stopped.append(Stopped(answer.record, "refused"))
        else:
            asked = answer.reply is not None and answer.reply.status == 0
            stopped.append(Stopped(answer.record, _end(places, answer.record, seconds, asked=asked)))
    Register(places.run).live()
    return stopped


def _end(places: Places, entry: Record, seconds: float, *, asked: bool) -> str:
    """See to it that a supervisor ends; one that was asked and answered is about to."""
    with supervisor_of(places, entry) as pidfd:
        if pidfd is None:
            return "stopped"
        try:
            if not asked:  # its socket is gone, or it does not read it
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if select.select([pidfd], [], [], seconds)[0]:
                return "stopped"
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except PermissionError:
            return "refused"
        except ProcessLookupError:
            return "stopped"
        with suppress(OSError):
            if select.select([pidfd], [], [], KILLED_SECONDS)[0]:
                return "killed"
    return "alive"
