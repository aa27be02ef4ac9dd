"""The ramdisk reader: reads what the kernel would unpack, and refuses everything else with an offset."""

import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.build import Limits
from cloister.build.cpio import CpioArchive
from cloister.build.directory import read_directory
from cloister.build.linuxkit import rootfs_entries
from cloister.cpio import CompressedError, CpioEntry, CpioError, CpioTrailer, read_cpio, read_files
from simulators.crafted_images import TRAILER, archive, link, newc
from simulators.image_sources import write_directory

numbers = st.integers(0, 0xFFFFFFFF)
names = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name and name != b"TRAILER!!!")
FIELDS = ("ino", "uid", "gid", "nlink", "mtime", "devmajor", "devminor", "rdevmajor", "rdevminor")
entries = st.tuples(names, st.binary(max_size=50), st.fixed_dictionaries(dict.fromkeys(FIELDS, numbers)))


@given(st.lists(st.lists(entries, max_size=5), max_size=3), st.integers(0, 5))
def test_what_is_written_is_read_back(
    archives: list[list[tuple[bytes, bytes, dict[str, Any]]]], zeros: int
) -> None:
    """Every field and byte of every entry, over archives with zeros between them."""
    written = b""
    for members in archives:
        written += archive(*[newc(name, body=body, **fields) for name, body, fields in members])
        written += bytes(4 * zeros)
    read = [
        (entry.name, bytes(entry.content), entry.inode, entry.uid, entry.gid, entry.links, entry.mtime,
         entry.device, entry.node)
        for entry in read_files(written)
    ]  # fmt: skip
    assert read == [
        (name, body, fields["ino"], fields["uid"], fields["gid"], fields["nlink"], fields["mtime"],
         (fields["devmajor"], fields["devminor"]), (fields["rdevmajor"], fields["rdevminor"]))
        for members in archives for name, body, fields in members
    ]  # fmt: skip


@given(st.data())
def test_damage_is_an_error_or_another_entry(data: st.DataObject) -> None:
    """Whatever the bytes, reading ends, raises nothing but CpioError and stays within the buffer."""
    good = bytearray(archive(newc(b"a", body=b"text"), link(b"b", b"a"), newc(b"c" * 9, body=bytes(30))))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    end, buffer = 0, bytes(good[: data.draw(st.integers(0, len(good)))])
    with suppress(CpioError):
        for item in read_cpio(buffer):
            assert end <= item.offset <= len(buffer)
            end = item.offset if isinstance(item, CpioTrailer) else item.offset + 110 + len(item.content)


def test_a_builders_ramdisk_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What our writer makes of a directory is read again, entry by entry and in its order."""
    tree = read_directory(write_directory(tmp_path / "root"), Limits())
    written = list(rootfs_entries(tree.root))
    found = list(read_files(b"".join(CpioArchive(written).chunks())))
    expected = [(entry.name.rstrip(b"/"), entry.kind | entry.mode) for entry in written]
    assert [(entry.name.rstrip(b"/"), entry.mode) for entry in found] == expected
    for entry, origin in zip(found, written, strict=True):
        assert bytes(entry.target or entry.content) == b"".join(origin.content.chunks())


ENTRY = newc(b"name", body=b"body")
REFUSED = [
    (b"no archive", 0, "expected an archive"),
    (b"070707" + ENTRY[6:], 0, "expected a header"),
    (ENTRY[:50], 0, "ends inside the header"),
    (ENTRY + b"\1" + ENTRY, len(ENTRY), "expected a header"),
    (ENTRY, len(ENTRY), "without its trailer"),
    (ENTRY[:6] + b"0x" + ENTRY[8:], 0, "hexadecimal"),
    (ENTRY[:6] + b"+1" + ENTRY[8:], 0, "hexadecimal"),
    (newc(b"", body=b"x"), 0, "1 bytes long"),
    (newc(b"a" * 4096), 0, "4097 bytes long"),
    (newc(b"name", namesize=0xFFFFFFFF), 0, "4294967295 bytes long"),
    (newc(b"name", filesize=0xFFFFFFFF), 0, "needs 4294967"),
    (newc(b"na\0me"), 0, "only NUL"),
    (newc(b"name", namesize=4), 0, "only NUL"),
    (link(b"l", b"a" * 4096), 0, "target of 4096"),
    (TRAILER + bytes(2) + ENTRY, len(TRAILER) + 2, "multiple of 4"),
]


@pytest.mark.parametrize(("data", "offset", "text"), REFUSED)
def test_what_the_kernel_would_not_unpack_is_refused(data: bytes, offset: int, text: str) -> None:
    """One sentence, and where it is."""
    with pytest.raises(CpioError, match=text) as error:
        list(read_cpio(data))
    assert error.value.offset == offset


def test_what_comes_before_damage_is_read() -> None:
    """Entries before the damage are given; then the error."""
    reader = read_files(ENTRY + b"rubbish" * 20)
    assert next(reader).name == b"name"
    with pytest.raises(CpioError, match="expected a header"):
        next(reader)


def test_compression_is_named() -> None:
    """A compressed ramdisk is another error than a damaged one."""
    for start, name in [(b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz")]:
        with pytest.raises(CompressedError, match=name):
            list(read_cpio(archive(ENTRY) + start + bytes(9)))


def test_nothing_is_copied() -> None:
    """Contents are views of the buffer, so a large ramdisk costs nothing."""
    data = archive(newc(b"big", stat.S_IFREG, bytes(1 << 16)))
    (entry,) = read_files(data)
    assert isinstance(entry, CpioEntry)
    assert entry.content.obj is data
