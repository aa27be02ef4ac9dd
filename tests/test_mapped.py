"""Views of files: every byte once, and the process keeps little of what it has gone through."""

import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cloister.mapped import PIECE, RESIDENT, pieces, release

LOCKED = """
import ctypes, mmap, sys
from cloister.mapped import pieces
if ctypes.CDLL(None).mlockall(7):  # current, future, on fault: a supervisor's
    sys.exit(77)
with open(sys.argv[1], "rb") as file:
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print(sum(len(piece) for piece in pieces(memoryview(mapping))))
"""


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
    """A supervisor locks what it maps, so that it is never swapped: nothing is let go of, nothing fails."""
    (tmp_path / "file").write_bytes(bytes(2 * PIECE + 1))
    done = subprocess.run(
        [sys.executable, "-c", LOCKED, tmp_path / "file"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("this user may not lock memory")
    assert (done.returncode, done.stdout) == (0, f"{2 * PIECE + 1}\n"), done.stderr
