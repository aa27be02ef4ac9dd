"""Where two stretches of bytes part."""

from typing import Final

from cloister.mapped import RESIDENT, release

_CHUNK: Final = 1 << 20


def first_difference(first: memoryview, second: memoryview) -> int | None:
    """Return the first offset at which they differ, an end included; None where they are equal."""
    size = min(len(first), len(second))
    for start in range(0, size, _CHUNK):
        if start and start % RESIDENT == 0:
            release(first)
            release(second)
        end = min(start + _CHUNK, size)
        # as bytes, which are compared a word at a time; views are compared item by item
        one, other = bytes(first[start:end]), bytes(second[start:end])
        if one != other:
            low, high = 0, len(one)  # they are equal before low and differ before high
            while high - low > 1:
                middle = (low + high) // 2
                if one[low:middle] == other[low:middle]:
                    low = middle
                else:
                    high = middle
            return start + low
    return None if len(first) == len(second) else size
