"""A guest's memory file: its size is fast, and it reads zeros once its owner has closed it."""

import fcntl
import os
from pathlib import Path

import pytest

from cloister.vmm import MachineError, MemoryFile

MIB = 1 << 20


def test_a_duplicate_reads_zeros_after_the_end() -> None:
    """Who holds a duplicate of the file finds nothing of what a guest wrote."""
    memory = MemoryFile(64)
    duplicate = os.dup(memory.fd)
    try:
        for offset in (0, 5 * MIB + 123, 64 * MIB - 6):
            os.pwrite(duplicate, b"secret", offset)
        memory.close()
        for offset in (0, 5 * MIB + 123, 64 * MIB - 6):
            assert os.pread(duplicate, 6, offset) == bytes(6)
        assert not any(os.pread(duplicate, 64 * MIB, 0))
    finally:
        os.close(duplicate)


def test_pages_that_were_never_used_are_not_touched() -> None:
    """Overwriting costs what a guest used, not what it was given."""
    memory = MemoryFile(64)
    os.pwrite(memory.fd, b"x", 9 * MIB)
    memory.scrub()
    assert os.fstat(memory.fd).st_blocks * 512 < 4 * MIB
    memory.close()


def test_the_size_is_sealed_and_closing_twice_is_fine() -> None:
    """The devices map the file: it can neither shrink nor grow."""
    memory = MemoryFile(8)
    seals = fcntl.fcntl(memory.fd, fcntl.F_GET_SEALS)
    assert seals & fcntl.F_SEAL_SHRINK
    assert seals & fcntl.F_SEAL_GROW
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fd, MIB)
    memory.close()
    memory.close()


def test_memory_that_cannot_be_had_is_refused_in_a_sentence() -> None:
    """A size beyond any file is an error of ours, and no descriptor stays open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(MachineError, match="guest memory cannot be had"):
        MemoryFile(1 << 44)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
