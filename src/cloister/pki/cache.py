"""Chains that were validated before, so that only what changes with time is checked again.

A chain is remembered under the exact bytes of all its certificates, so a hit speaks of these and no others; a
refusal is never remembered. No lock is needed: every access is one operation on a dictionary, and the worst
that threads can do to each other is to forget.
"""

from cloister.errors import CloisterError
from cloister.pki.link import Link

_Chain = tuple[Link, ...]
_Key = tuple[bytes, ...]


class CertificateCache:
    """At most ``size`` validated chains, about 8 KiB each; one object may serve many threads and many roots.

    The half that was filled last stays whole, the half before it goes when that one is full. Raises
    CloisterError for a size below 2.
    """

    __slots__ = ("_half", "_older", "_recent")

    def __init__(self, size: int = 1024) -> None:
        if size < 2:
            raise CloisterError(f"a certificate cache holds at least 2 chains, not {size}")
        self._half = size // 2
        self._recent: dict[_Key, _Chain] = {}
        self._older: dict[_Key, _Chain] = {}

    def __len__(self) -> int:
        """Return how many chains are remembered."""
        return len(self._recent) + len(self._older)

    def recall(self, certificates: _Key) -> _Chain | None:
        """Return the chain of exactly these certificates, root first, if it was validated before."""
        chain = self._recent.get(certificates)
        if chain is None and (chain := self._older.get(certificates)) is not None:
            self.remember(certificates, chain)
        return chain

    def remember(self, certificates: _Key, chain: _Chain) -> None:
        """Keep a chain that passed every check."""
        if len(self._recent) >= self._half:
            self._older, self._recent = self._recent, {}
        self._recent[certificates] = chain
