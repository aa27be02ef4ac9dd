"""The ramdisk writer against a reader of its own and against GNU cpio."""

import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.build.content import BuildError, HostFile, Literal
from cloister.build.cpio import CpioArchive, CpioEntry
from cloister.build.tree import Kind
from simulators.ramdisks import ramdisk_entries


def archived(*entries: CpioEntry) -> bytes:
    archive = CpioArchive(entries)
    data = b"".join(archive.chunks())
    assert len(data) == archive.size
    return data


numbers = st.integers(0, 0xFFFFFFFF)
names = st.binary(min_size=1, max_size=300).map(lambda raw: raw.replace(b"\0", b"_"))
made = st.builds(
    CpioEntry,
    names.filter(lambda name: name != b"TRAILER!!!"),
    st.sampled_from(Kind),
    st.integers(0, 0o7777),
    st.binary(max_size=40).map(Literal),
    *[numbers] * 5,
)


@given(st.lists(made, max_size=5))
def test_archive_round_trip(entries: list[CpioEntry]) -> None:
    """Every name, kind, owner, mode, time, device and byte comes back, in the order given."""
    data = archived(*entries)
    found = ramdisk_entries(data)
    assert len(data) % 512 == 0
    assert [
        CpioEntry(
            *(item.name, Kind(item.mode & 0o170000), item.mode & 0o7777, Literal(item.body)),
            *(item.uid, item.gid, item.mtime, *item.device),
        )
        for item in found
    ] == entries
    assert [item.inode for item in found] == list(range(721, 721 + len(found)))
    assert {item.links for item in found if item.mode & 0o170000 != Kind.DIRECTORY} <= {1}


@pytest.mark.skipif(shutil.which("cpio") is None, reason="GNU cpio is not installed")
def test_gnu_cpio_reads_it() -> None:
    """GNU cpio lists the same entries and finds nothing to complain about."""
    data = archived(
        CpioEntry(b"a", Kind.FILE, 0o755, Literal(b"#!")),
        CpioEntry(b"d/", Kind.DIRECTORY, 0o755),
        CpioEntry(b"d/e", Kind.FILE, 0o600, Literal(b"12345"), 7, 8),
        CpioEntry(b"l", Kind.SYMLINK, 0o777, Literal(b"a")),
        CpioEntry(b"tty", Kind.CHARACTER, 0o600, major=5, minor=1),
    )
    listing = subprocess.run(
        ["cpio", "-tvn"], input=data, capture_output=True, check=True, env=os.environ | {"TZ": "UTC"}
    )
    lines = [line.split() for line in listing.stdout.decode().splitlines()]
    assert [(line[0], *line[2:5], line[-1]) for line in lines] == [
        ("-rwxr-xr-x", "0", "0", "2", "a"),
        ("drwxr-xr-x", "0", "0", "0", "d/"),
        ("-rw-------", "7", "8", "5", "d/e"),
        ("lrwxrwxrwx", "0", "0", "1", "a"),
        ("crw-------", "0", "0", "5,", "tty"),
    ]
    assert b"block" in listing.stderr


def test_what_the_kernel_would_skip_is_refused() -> None:
    """A longer path or file than the format holds is an error here, not a file missing there."""
    with pytest.raises(BuildError, match="does not fit a ramdisk"):
        archived(CpioEntry(b"d" * 4096, Kind.FILE, 0))
    with pytest.raises(BuildError, match="path that it links to"):
        archived(CpioEntry(b"l", Kind.SYMLINK, 0o777, Literal(b"t" * 4096)))
    with pytest.raises(BuildError, match="files below 4 GiB"):
        CpioArchive([CpioEntry(b"f", Kind.FILE, 0, HostFile(b"/nowhere", 1 << 32))])
