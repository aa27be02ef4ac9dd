"""Which names a mistyped one may have meant: Jaro similarity above 0.7, as clap 4.4 suggests them."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

CONFIDENCE: Final = 0.7
MAX_WORD: Final = 100
"""Characters: longer words are no mistyped option."""


def similar(word: str, names: Iterable[str]) -> list[str]:
    """Return the names like ``word``, the most similar last."""
    if len(word) > MAX_WORD:
        return []
    scored = [(jaro(word, name), name) for name in names]
    return [name for score, name in sorted(scored, key=lambda pair: pair[0]) if score > CONFIDENCE]


def jaro(first: str, second: str) -> float:
    """Return the Jaro similarity, 0.0 to 1.0; a transposition is a match that goes back (strsim 0.10)."""
    if not first or not second:
        return float(first == second)
    reach = max(len(first), len(second)) // 2 - 1
    places: list[int] = []
    for i, letter in enumerate(first):
        for j in range(max(0, i - reach), min(len(second), i + reach + 1)):
            if j not in places and second[j] == letter:
                places.append(j)
                break
    if not places:
        return 0.0
    share = len(places)
    backwards = sum(after < before for before, after in pairwise(places))
    return (share / len(first) + share / len(second) + (share - backwards) / share) / 3
