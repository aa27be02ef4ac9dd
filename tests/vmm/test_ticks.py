"""The rate of the time stamp counter, from two moments."""

import os
import re
import time
from pathlib import Path

import pytest

from cloister.vmm import TickRate

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86_64 has this counter")


def test_two_measurements_agree() -> None:
    """The rate is the same twice, to a thousandth, and that of a processor."""
    rates = []
    for _ in range(2):
        rate = TickRate()
        time.sleep(0.1)
        khz = rate.khz()
        assert khz is not None
        rates.append(khz)
    assert 500_000 < rates[0] < 10_000_000
    assert abs(rates[0] - rates[1]) < rates[0] / 1000


def test_moments_too_close_tell_nothing() -> None:
    """Without time in between the doubt is larger than what was measured."""
    assert TickRate().khz() is None


def test_no_page_of_code_stays() -> None:
    """Once asked, the page that reads the counter is gone; it was never writable."""
    rate = TickRate()
    (line,) = (line for line in Path("/proc/self/maps").read_text().splitlines() if "rdtsc" in line)
    assert re.search(r" r-xp ", line)
    rate.khz()
    assert "rdtsc" not in Path("/proc/self/maps").read_text()
