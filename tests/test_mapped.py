"""Views of files: every byte once, and the process keeps little of what it has gone through."""

import ctypes
import mmap
import re
from pathlib import Path

import pytest

from cloister.mapped import PIECE, RESIDENT, pieces, release


def resident(path: Path) -> int:
    """Return the bytes of a mapped file that this process holds, as the kernel counts them."""
    form = rf" {re.escape(str(path))}\n(?:\w+: .*\n)*?Rss: +(\d+) kB"
    found = re.search(form, Path("/proc/self/smaps").read_text())
    return int(found[1]) * 1024 if found else 0


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, RESIDENT + 5])
def test_pieces_are_the_bytes(size: int) -> None:
    """Joined, the pieces are the buffer, and none is larger than a piece."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    parts = list(pieces(data))
    assert b"".join(parts) == data
    assert all(0 < len(part) <= PIECE for part in parts)


def test_a_large_file_is_gone_through_in_little_memory(tmp_path: Path) -> None:
    """At no piece is more of the file resident than is promised, and at the end nothing."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(5 * RESIDENT + 1)
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    most = 0
    for piece in pieces(view[4096:]):
        assert bytes(piece) == bytes(len(piece))
        most = max(most, resident(path))
    assert PIECE <= most <= RESIDENT + (1 << 20)
    assert resident(path) == 0


def test_a_private_copys_changes_are_not_lost(tmp_path: Path) -> None:
    """Only what can be read again from the file is let go of."""
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    mapping[:4] = b"mine"
    release(memoryview(mapping).toreadonly())
    assert mapping[:4] == b"mine"


def test_locked_memory_is_gone_through_too(tmp_path: Path) -> None:
    """Pages that are locked, as a supervisor's are, cannot be let go of, and are read all the same."""
    path = tmp_path / "locked"
    path.write_bytes(bytes(PIECE + 1))
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    libc = ctypes.CDLL(None)
    (line,) = (line for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line)
    start = ctypes.c_void_p(int(line.partition("-")[0], 16))
    assert libc.mlock(start, ctypes.c_size_t(4096)) == 0
    with pytest.raises(OSError, match="Invalid argument"):
        mapping.madvise(mmap.MADV_DONTNEED)
    assert b"".join(pieces(memoryview(mapping))) == bytes(PIECE + 1)
