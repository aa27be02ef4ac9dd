"""When an enclave that ended is started again, and after how long; pure."""

import re
from dataclasses import dataclass
from typing import Final

from cloister.running.enclaves import RunningError

FIRST_SECONDS: Final = 1.0
LAST_SECONDS: Final = 60.0
LONG_RUN_SECONDS: Final = 60.0
"""A run that lasted this long was not a failing start: the next pause is the first again."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Never, after failures (at most so many in a row, if a number is given), or always."""

    mode: str
    most: int | None = None

    @classmethod
    def parse(cls, text: str) -> "RestartPolicy":
        """Read ``no``, ``always``, ``on-failure`` or ``on-failure:N``; raises RunningError."""
        match = re.fullmatch(r"(no|always|on-failure)(?::([0-9]{1,6}))?", text, re.ASCII)
        if match is None or (match[2] is not None and match[1] != "on-failure"):
            raise RunningError(
                f"The restart policy is '{text[:50]}'; expected no, always, on-failure or on-failure:N."
            )
        return cls(match[1], None if match[2] is None else int(match[2]))

    def wants(self, code: int, restarts: int) -> bool:
        """Say whether to start again after an end with this code and so many restarts in a row."""
        if self.mode == "always":
            return True
        return self.mode == "on-failure" and code != 0 and (self.most is None or restarts < self.most)


class BackOff:
    """How long to wait before each restart: doubling from 1 s to 60 s, from the start after a long run."""

    def __init__(self) -> None:
        self.restarts = 0
        """How many there have been since the last long run."""

    def ended(self, lasted: float) -> None:
        """Note that a run has ended that lasted so many seconds."""
        if lasted >= LONG_RUN_SECONDS:
            self.restarts = 0

    def pause(self) -> float:
        """Count a restart and return the seconds to wait before it."""
        seconds = min(LAST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.restarts, 16))
        self.restarts += 1
        return seconds
