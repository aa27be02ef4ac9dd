"""The reference page of verification names the steps that there are."""

import re
from pathlib import Path

from cloister.attestation import STEPS

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/verification-steps.md"
ROW = re.compile(r"^\| ([0-9]+) \| `([^`]+)` \| (.+) \|$", re.MULTILINE)


def test_the_page_lists_every_step_in_order() -> None:
    """Number and name of each step, and something that it refuses."""
    rows = ROW.findall(PAGE.read_text())
    assert [(int(number), name) for number, name, _ in rows] == list(enumerate(STEPS, start=1))
    assert all(refused.strip() for *_, refused in rows)
