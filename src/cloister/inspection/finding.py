"""One thing that was looked at: what was found, and whether it is as strong as it should be."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "weaker"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured of one process."""

    subject: str
    """What was looked at, in a word or two."""
    measured: str
    """What is so, in the host kernel's own terms."""
    why: str = ""
    """What is weaker than it should be; empty when it is not."""

    @property
    def verdict(self) -> Verdict:
        """``ok``, or ``weaker`` when there is a reason."""
        return "weaker" if self.why else "ok"

    def to_json(self) -> dict[str, str]:
        """Return it for machines."""
        fields = {"Subject": self.subject, "Measured": self.measured, "Verdict": self.verdict}
        return fields | {"Why": self.why} if self.why else fields


def judge(subject: str, measured: str, *reasons: str | None) -> Finding:
    """Make a finding out of what was measured and of what is wrong with it, if anything is."""
    return Finding(subject, measured, "; ".join(reason for reason in reasons if reason))
