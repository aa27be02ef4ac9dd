"""Our ramdisk writer against our ramdisk reader: any tree comes back, and damage is refused or read alike."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from cloister.build.content import Literal
from cloister.build.cpio import CpioArchive
from cloister.build.cpio import CpioEntry as Written
from cloister.build.linuxkit import rootfs_entries
from cloister.build.tree import Kind, Node
from cloister.cpio import CpioEntry, CpioError, read_files
from simulators.crafted_images import archive, newc
from simulators.damage import damaged

u32 = st.integers(0, 2**32 - 1)
modes = st.integers(0, 0o7777)
contents = st.builds(Literal, st.binary(max_size=20) | st.binary(min_size=4090, max_size=4095))
names = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.binary(min_size=1, max_size=4).map(lambda raw: raw * 1000),
    st.sampled_from(
        [b".", b"..", b"/", b"a//b/", b"\xff\n\x1b[2J", b" ", b"070701", b"TRAILER!!! ", b"n" * 4095]
    ),
).filter(lambda name: b"\0" not in name and name != b"TRAILER!!!")
fields = {"mode": modes, **dict.fromkeys(("uid", "gid", "mtime", "major", "minor"), u32)}
written = st.builds(Written, names, st.sampled_from(Kind), content=contents, **fields)

parts = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & {0, ord("/")} and name not in (b".", b"..")
)
leaves = st.builds(Node, st.sampled_from(sorted(set(Kind) - {Kind.DIRECTORY})), content=contents, **fields)
nodes = st.recursive(
    leaves,
    lambda inner: st.builds(
        Node, st.just(Kind.DIRECTORY), children=st.dictionaries(parts, inner, max_size=4), **fields
    ),
    max_leaves=8,
)
usual = st.sampled_from([b"etc", b"dev", b"proc", b"sys", b"Dockerfile", b".dockerenv"])
trees = st.builds(
    Node, st.just(Kind.DIRECTORY), children=st.dictionaries(parts | usual, nodes, max_size=5), **fields
)


def in_full(archived: CpioArchive) -> bytes:
    data = b"".join(archived.chunks())
    assert len(data) == archived.size
    return data


def check_read_back(entries: list[Written]) -> None:
    found = list(read_files(in_full(CpioArchive(entries))))
    for read, entry in zip(found, entries, strict=True):
        assert (read.name, read.mode, read.kind) == (entry.name, entry.kind | entry.mode, entry.kind)
        assert (read.uid, read.gid, read.mtime) == (entry.uid, entry.gid, entry.mtime)
        assert read.node == (entry.major, entry.minor)
        assert bytes(read.content) == b"".join(entry.content.chunks())
    assert [read.inode for read in found] == list(range(721, 721 + len(found)))


@given(st.lists(written, max_size=6))
def test_entries_round_trip(entries: list[Written]) -> None:
    """Any name, type, mode, owner, time, device and content is read back, in the order it was written in."""
    check_read_back(entries)


@given(trees)
def test_trees_round_trip(root: Node) -> None:
    """So is a whole tree as the builder lays it out, with what Docker and linuxkit add and replace."""
    check_read_back(list(rootfs_entries(root)))


def written_again(entry: CpioEntry) -> bytes:
    return newc(
        entry.name,
        entry.mode,
        bytes(entry.content),
        ino=entry.inode,
        uid=entry.uid,
        gid=entry.gid,
        nlink=entry.links,
        mtime=entry.mtime,
        devmajor=entry.device[0],
        devminor=entry.device[1],
        rdevmajor=entry.node[0],
        rdevminor=entry.node[1],
    )


def meaning(entry: CpioEntry) -> tuple[object, ...]:
    attributes = (entry.inode, entry.mode, entry.uid, entry.gid, entry.links, entry.mtime)
    return (entry.name, *attributes, entry.device, entry.node, bytes(entry.content))


def read_until_refused(data: bytes) -> Iterator[CpioEntry]:
    try:
        yield from read_files(data)
    except CpioError as error:
        if "\n" in error.message or not 0 <= error.offset <= len(data):
            raise


@given(st.data())
def test_damaged_archive_is_refused_or_means_what_it_says(data: st.DataObject) -> None:
    """What is read before the end or the refusal says the same when another writer writes it."""
    entries = data.draw(st.lists(written, min_size=1, max_size=4))
    found = list(read_until_refused(data.draw(damaged(in_full(CpioArchive(entries))))))
    again = read_files(archive(*map(written_again, found)))
    assert [meaning(entry) for entry in again] == [meaning(entry) for entry in found]
