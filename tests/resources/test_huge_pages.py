"""Reserving huge pages: largest first, all or nothing, and nobody else's are touched."""

import pytest

from cloister.resources import AllocatorError
from cloister.resources.huge_pages import release_pages, reserve_pages

GIB, MIB2 = 1 << 20, 2048


class Node:
    """A node's page counts as the kernel keeps them: at most its memory, at least what is in use."""

    def __init__(self, memory_mib: int, *, used: int = 0, gib: bool = True) -> None:
        self.left_kib = memory_mib * 1024
        self.used = used
        self.counts = {GIB: 0, MIB2: 0} if gib else {MIB2: 0}

    def sizes(self) -> list[int]:
        """Return the sizes."""
        return list(self.counts)

    def count(self, size_kib: int) -> int:
        """Return a count."""
        return self.counts[size_kib]

    def set_count(self, size_kib: int, count: int) -> None:
        """Give or take what is possible."""
        had = self.counts[size_kib]
        given = min(count - had, self.left_kib // size_kib) if count > had else max(count, self.used) - had
        self.counts[size_kib] += given
        self.left_kib -= given * size_kib


def test_largest_pages_come_first() -> None:
    """Whole GiB are taken as such, the rest in 2 MiB, rounded up."""
    node, told = Node(8192), list[str]()
    assert reserve_pages(node, 2561, told.append) == {GIB: 2, MIB2: 257}
    assert told == ["- Reserved 2 pages of type: 1048576kB.", "- Reserved 257 pages of type: 2048kB."]


def test_what_large_pages_cannot_give_smaller_ones_do() -> None:
    """A node without a whole GiB gives 2 MiB pages instead."""
    assert reserve_pages(Node(1023), 512, lambda _: None) == {MIB2: 256}
    node = Node(3000)
    assert reserve_pages(node, 2048, lambda _: None) == {GIB: 2}
    assert reserve_pages(node, 900, lambda _: None) == {MIB2: 450}


def test_shortage_rolls_back_to_what_there_was() -> None:
    """When it is not enough, every count is what it was before, other users' pages included."""
    node = Node(2500)
    node.set_count(MIB2, 100)
    with pytest.raises(AllocatorError, match="Failed to configure entire amount of requested memory"):
        reserve_pages(node, 4096, lambda _: None)
    assert node.counts == {GIB: 0, MIB2: 100}


def test_other_users_pages_stay() -> None:
    """Pages are added to those that somebody else reserved, and only ours are given back."""
    node = Node(4096)
    node.set_count(MIB2, 100)
    had = reserve_pages(node, 512, lambda _: None)
    assert node.counts[MIB2] == 356
    release_pages(node, had)
    assert node.counts == {GIB: 0, MIB2: 100}


def test_pages_in_use_are_not_given_back_silently() -> None:
    """When the kernel keeps pages because they are in use, that is an error."""
    node = Node(4096, gib=False)
    had = reserve_pages(node, 512, lambda _: None)
    node.used = 200
    with pytest.raises(AllocatorError, match="Some pages may be in use"):
        release_pages(node, had)
