"""The ramdisk writer against a reader of its own and against GNU cpio."""

import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.build.content import BuildError, HostFile, Literal
from cloister.build.cpio import CpioArchive
from cloister.build.tree import Kind, Node


def archived(root: Node) -> bytes:
    archive = CpioArchive.of_tree(root)
    data = b"".join(archive.chunks())
    assert len(data) == archive.size
    return data


def entries(data: bytes) -> dict[bytes, tuple[int, ...]]:
    """Read a newc archive naively: name -> (ino, mode, uid, gid, links, mtime, size, devices, …, body)."""
    found, offset = dict[bytes, tuple[int, ...]](), 0
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * n : offset + 14 + 8 * n], 16) for n in range(13)]
        name = data[offset + 110 : offset + 110 + fields[11] - 1]
        body = -(-(offset + 110 + fields[11]) // 4) * 4
        if name == b"TRAILER!!!":
            assert not data[body:].strip(b"\0")
            return found
        found[name] = (*fields[:11], body)
        offset = -(-(body + fields[6]) // 4) * 4


def folder(**children: Node) -> Node:
    return Node(Kind.DIRECTORY, children={name.encode(): node for name, node in children.items()})


names = st.binary(min_size=1, max_size=9).map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
files = st.binary(max_size=40).map(lambda body: Node(Kind.FILE, 0o640, 5, 6, Literal(body)))
trees: Any = st.recursive(
    files,
    lambda inner: st.dictionaries(names, inner, max_size=4).map(
        lambda got: Node(Kind.DIRECTORY, children=got)
    ),
)


@given(st.dictionaries(names, trees, max_size=4))
def test_archive_round_trip(children: dict[bytes, Node]) -> None:
    """Every name, owner, mode and byte of any tree is in its archive, parents first, names in order."""
    data = archived(Node(Kind.DIRECTORY, children=children))
    expected = dict[bytes, Node]()

    def collect(prefix: bytes, node: Node) -> None:
        for name in sorted(node.children):
            expected[prefix + name] = node.children[name]
            collect(prefix + name + b"/", node.children[name])

    collect(b"", Node(Kind.DIRECTORY, children=children))
    found = entries(data)
    assert list(found) == list(expected)
    assert [fields[0] for fields in found.values()] == list(range(1, len(found) + 1))
    for name, (_, mode, uid, gid, _, mtime, size, *_, body) in found.items():
        node = expected[name]
        assert (mode, uid, gid, mtime) == (node.kind | node.mode, node.uid, node.gid, 0)
        assert data[body : body + size] == b"".join(node.content.chunks())


def test_hard_links_carry_their_bytes_once() -> None:
    """Names of one node share its number and link count; the last of them holds the bytes."""
    shared = Node(Kind.FILE, content=Literal(b"shared"))
    found = entries(archived(folder(a=shared, b=shared, c=Node(Kind.FILE, content=Literal(b"own")))))
    assert [(fields[0], fields[4], fields[6]) for fields in found.values()] == [
        (1, 2, 0),
        (1, 2, 6),
        (2, 1, 3),
    ]


def test_devices_keep_their_numbers() -> None:
    """A device node's numbers stand in the fields of the device it is, not the one it is on."""
    found = entries(archived(folder(tty=Node(Kind.CHARACTER, 0o600, major=5, minor=1))))
    assert found[b"tty"][7:11] == (0, 0, 5, 1)


@pytest.mark.skipif(shutil.which("cpio") is None, reason="GNU cpio is not installed")
def test_gnu_cpio_reads_it() -> None:
    """GNU cpio lists the same entries and finds nothing to complain about."""
    shared = Node(Kind.FILE, 0o755, content=Literal(b"#!"))
    link = Node(Kind.SYMLINK, 0o777, content=Literal(b"a"))
    root = folder(a=shared, b=shared, d=folder(e=Node(Kind.FILE, 0o600, 7, 8, Literal(b"12345"))), l=link)
    listing = subprocess.run(
        ["cpio", "-tvn"], input=archived(root), capture_output=True, check=True, env={"TZ": "UTC"}
    )
    lines = [line.split() for line in listing.stdout.decode().splitlines()]
    assert [(line[0], line[2], line[3], line[4], line[8:]) for line in lines] == [
        ("-rwxr-xr-x", "0", "0", "0", ["a"]),
        ("-rwxr-xr-x", "0", "0", "2", ["b"]),
        ("drwxr-xr-x", "0", "0", "0", ["d"]),
        ("-rw-------", "7", "8", "5", ["d/e"]),
        ("lrwxrwxrwx", "0", "0", "1", ["l", "->", "a"]),
    ]
    assert b"block" in listing.stderr


def test_what_the_kernel_would_skip_is_refused() -> None:
    """A longer path or file than the format holds is an error here, not a file missing there."""
    root = folder()
    node = root
    for _ in range(17):
        node.children[b"d" * 250] = node = Node(Kind.DIRECTORY)
    with pytest.raises(BuildError, match="does not fit a ramdisk"):
        archived(root)
    large = CpioArchive.of_tree(folder(f=Node(Kind.FILE, content=HostFile(b"/nowhere", 1 << 32))))
    with pytest.raises(BuildError, match="files below 4 GiB"):
        list(large.chunks())


def test_the_trailers_name_is_refused() -> None:
    """A file that would end the archive early is not written into it; below a directory it is harmless."""
    with pytest.raises(BuildError, match="ends the archive"):
        archived(Node(Kind.DIRECTORY, children={b"TRAILER!!!": Node(Kind.FILE)}))
    assert (
        len(entries(archived(folder(d=Node(Kind.DIRECTORY, children={b"TRAILER!!!": Node(Kind.FILE)}))))) == 2
    )
