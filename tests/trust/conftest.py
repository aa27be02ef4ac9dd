"""Roots of trust for the tests."""

from pathlib import Path

import pytest

from cloister.trust import Trust, initialise
from simulators.power_loss import HOST, NOW, REGION


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """Return a root of trust just made, its key in a file."""
    return initialise(tmp_path / "state/pki", region=REGION, instance_id=HOST.instance_id, now=NOW)
