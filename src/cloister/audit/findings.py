"""What lint can find: every code with its severity, its meaning and what to do about it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import Final

from cloister.audit.codes import CODES


class Severity(IntEnum):
    """How bad; a note is worth knowing and nothing to mend."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


MAX_PER_CODE: Final = 50
"""Findings of one code that are shown; the others are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, dangerous or worth knowing."""

    code: str
    where: str
    """A part of the image: ``header``, ``section 3``, ``ramdisk 2: rootfs/bin/sh``."""
    message: str

    @property
    def severity(self) -> Severity:
        """As the code's table has it."""
        return Severity[CODES[self.code].severity.upper()]

    @property
    def fix(self) -> str:
        """What to do about it."""
        return CODES[self.code].fix

    def to_json(self) -> dict[str, str]:
        """Return the finding with its code's fix."""
        return {
            "Code": self.code,
            "Severity": self.severity.name.lower(),
            "Where": self.where,
            "Message": self.message,
            "Fix": self.fix,
        }


class Findings:
    """Collects findings within bounds, without those that are to be ignored."""

    def __init__(self, ignore: Iterable[str] = ()) -> None:
        self._ignore = [rule.partition(":") for rule in ignore]
        self.found = list[Finding]()
        self.counts: Counter[str] = Counter()
        """How many of each code there were, shown or not."""

    def add(self, code: str, where: str, message: str) -> None:
        """Note one finding; beyond MAX_PER_CODE it is only counted."""
        for ignored, _, pattern in self._ignore:
            if ignored == code and (not pattern or fnmatchcase(where.partition(": ")[2], pattern)):
                return
        self.counts[code] += 1
        if self.counts[code] <= MAX_PER_CODE:
            self.found.append(Finding(code, where, message))

    @property
    def worst(self) -> Severity | None:
        """The worst severity found, or None."""
        return max((finding.severity for finding in self.found), default=None)

    def ordered(self) -> list[Finding]:
        """Return the findings, the worst first, otherwise by code and in the image's order."""
        return sorted(self.found, key=lambda finding: (-finding.severity, finding.code))

    def not_shown(self) -> dict[str, int]:
        """Return how many findings of which code were only counted."""
        return {code: count - MAX_PER_CODE for code, count in self.counts.items() if count > MAX_PER_CODE}
