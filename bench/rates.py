"""How often something can be done in a second, measured in alternation with its rival."""

import statistics
import time
from collections.abc import Callable


def rate(action: Callable[[], object], *, seconds: float) -> float:
    """Return how many times a second ``action`` ran during ``seconds``."""
    count = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        action()
        count += 1
    return count / elapsed


def alternating_rates(
    ours: Callable[[], object], rival: Callable[[], object], *, rounds: int = 7, seconds: float = 0.5
) -> tuple[float, float]:
    """Return the median rates of two actions, measured turn by turn so that noise hits both."""
    pairs = [(rate(ours, seconds=seconds), rate(rival, seconds=seconds)) for _ in range(rounds)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)
