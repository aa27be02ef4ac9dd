"""Merging layers: whiteouts, links and replacements as OCI has them, and attempts to get out."""

import gzip
import os
import sys
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloister.build.content import BuildError, Region, open_region
from cloister.build.layers import apply_layer, unpack_archive
from cloister.build.tree import Kind, Limits, Tree, walk_tree
from simulators.image_sources import member, tar_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Members = Sequence[tuple[tarfile.TarInfo, bytes]]


def merged(directory: Path, *layers: Members, limits: Limits | None = None) -> dict[str, str]:
    """Apply layers and return each path's content, link target or mode."""
    limits = limits or Limits()
    tree = Tree("the image", limits)
    shown = dict[str, str]()
    with ExitStack() as held:
        for number, members in enumerate(layers):
            path = directory / f"{number}.tar"
            path.write_bytes(tar_of(members))
            file, region = open_region(path)
            held.enter_context(file)
            apply_layer(tree, region, limits)
        for name, node in walk_tree(tree.root):
            content = b"".join(node.content.chunks()).decode()
            shown[name.decode()] = f"{node.mode:o}" if node.kind is Kind.DIRECTORY else content
    return shown


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.LNKTYPE, linkname=target, **fields)


def folder(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE, mode=mode)


def test_upper_layers_replace_and_extend(tmp_path: Path) -> None:
    """A file replaces a file or a directory; a directory changes its mode and keeps its children."""
    lower = [member("d/kept", body=b"1"), member("f", body=b"old"), member("gone/below", body=b"2")]
    upper = [folder("d", 0o700), member("f", body=b"new"), member("gone", body=b"now a file")]
    assert merged(tmp_path, lower, upper) == {"d": "700", "d/kept": "1", "f": "new", "gone": "now a file"}


def test_whiteouts_hide_lower_layers_only(tmp_path: Path) -> None:
    """A whiteout hides what is below, never what its own layer brings, wherever it stands in the archive."""
    lower = [member("a", body=b"low"), member("d/x", body=b"low"), member("o/y", body=b"low")]
    upper = [member("a", body=b"up"), member(".wh.a"), member("d/.wh.x"), member("o/z", body=b"up")]
    upper += [member("o/.wh..wh..opq"), member(".wh..wh.plnk"), member(".wh.missing"), member("no/.wh.way")]
    assert merged(tmp_path, lower, upper) == {"a": "up", "d": "755", "o": "755", "o/z": "up"}


def test_hard_links_share_and_outlive_their_first_name(tmp_path: Path) -> None:
    """A hard link is the file itself, also across layers, and stays when the first name goes."""
    lower = [member("a", body=b"shared"), hard("b", "./a")]
    assert merged(tmp_path, lower, [hard("c", "b"), member(".wh.a")]) == {"b": "shared", "c": "shared"}
    assert merged(tmp_path, lower, [hard("c", "/b")]) == {"a": "shared", "b": "shared", "c": "shared"}


def test_a_hard_links_header_is_the_files(tmp_path: Path) -> None:
    """Mode, owner and time of a hard link's header become the file's, as Docker and containerd unpack it."""
    (tmp_path / "l.tar").write_bytes(
        tar_of([member("a", mode=0o600), hard("b", "a", mode=0o755, mtime=9, uid=4)])
    )
    tree = Tree("the image", Limits())
    file, region = open_region(tmp_path / "l.tar")
    with file:
        apply_layer(tree, region, Limits())
    node = tree.root.children[b"a"]
    assert (node.mode, node.mtime, node.uid) == (0o755, 9, 4)


def test_links_are_followed_inside_the_tree(tmp_path: Path) -> None:
    """Directories reached through links, absolute or climbing, are the tree's own."""
    lower = [folder("usr/lib"), link("lib", "usr/lib"), link("abs", "/usr"), link("up", "../../../usr")]
    upper = [member("lib/1", body=b""), member("abs/lib/2", body=b""), member("up/lib/3", body=b"")]
    shown = merged(tmp_path, lower, upper)
    assert [name for name in shown if name.startswith("usr/lib/")] == ["usr/lib/1", "usr/lib/2", "usr/lib/3"]
    assert shown["abs"] == "/usr"


def test_a_directory_replaces_a_link(tmp_path: Path) -> None:
    """A directory entry over a symbolic link replaces the link and does not touch its target."""
    lower = [folder("target", 0o700), link("d", "target")]
    assert merged(tmp_path, lower, [folder("d"), member("d/f")]) == {"d": "755", "d/f": "", "target": "700"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../etc/passwd")], "climbs with"),
        ([member("a/../../b")], "climbs with"),
        ([link("a", "b"), link("b", "a"), member("a/f")], "circle of links"),
        ([hard("a", "../../etc/shadow")], "climbs with"),
        ([hard("a", "missing")], "not a file in it"),
        ([folder("d"), hard("a", "d")], "not a file in it"),
        ([member("f"), member("f/below")], "below something that is not a directory"),
        ([member("n" * 256)], "longer than 255"),
        ([member("d/" * 2048 + "f")], "no file system can hold"),
        ([member("nul", pax_headers={"path": "a\0b"})], "no file system can hold"),
        ([link("l", "t" * 4096)], "target is no path"),
        ([member(".", tarfile.SYMTYPE, linkname="elsewhere")], "replaces the root directory"),
        ([member("d/.wh..", body=b"")], "hides nothing"),
        ([member("d/.wh.", body=b"")], "hides nothing"),
        ([member("d/.wh...", body=b"")], "climbs"),
    ],
)  # fmt: skip
def test_escapes_are_refused(members: Members, message: str, tmp_path: Path) -> None:
    """Nothing climbs out, loops or hides in a name; each attempt is one sentence."""
    with pytest.raises(BuildError, match=message) as refused:
        merged(tmp_path, members)
    assert "\n" not in str(refused.value)


def test_absolute_names_are_the_trees(tmp_path: Path) -> None:
    """A leading slash means the tree's root, as every unpacker has it."""
    assert merged(tmp_path, [member("/etc/f", body=b"1")]) == {"etc": "755", "etc/f": "1"}


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    """Entries are counted over all layers, with the directories they imply."""
    few = Limits(entries=5)
    assert merged(tmp_path, [member("a/b/c/d/e")], limits=few)
    with pytest.raises(BuildError, match="more than 5 files"):
        merged(tmp_path, [member("a/b/c")], [member("a/b/c")] * 3, limits=few)


def test_sparse_bombs_are_refused(tmp_path: Path) -> None:
    """Files of holes count as long as they are, over all layers; another name for one costs nothing."""
    holes = member("a", pax_headers={"GNU.sparse.map": "", "GNU.sparse.size": str(1 << 20)})
    few = Limits(size=1 << 20)
    assert merged(tmp_path, [holes, hard("b", "a"), hard("c", "a")], limits=few)
    with pytest.raises(BuildError, match="more than 1048576 bytes"):
        merged(tmp_path, [holes], [(holes[0].replace(name="b"), b"")], limits=few)


def test_winding_links_are_refused(tmp_path: Path) -> None:
    """Links that make every name a journey through thousands of others are refused before they cost time."""
    winding = [folder("d"), *[link(f"l{number}", "d/../" * 800 + f"l{number + 1}") for number in range(30)]]
    with pytest.raises(BuildError, match="too many links"):
        merged(
            tmp_path,
            [*winding, link("l30", "d"), *[member(f"l0/{n}") for n in range(20)]],
            limits=Limits(1000),
        )


def test_endless_paths_are_refused(tmp_path: Path) -> None:
    """A directory reached through links may not lie deeper than a path can say."""
    deep = [link(f"l{number}", f"l{number - 1}/{'d/' * 900}") for number in range(1, 6)]
    layers = [[folder("d"), link("l0", "d"), *deep, member("l5/file")]]
    with pytest.raises(BuildError, match="does not fit a ramdisk"):
        merged(tmp_path, *layers)


def unpacked(data: bytes, directory: Path, limits: Limits) -> bytes:
    path = directory / "layer"
    path.write_bytes(data)
    with ExitStack() as held:
        file, region = open_region(path)
        held.enter_context(file)
        plain: Region = unpack_archive(region, directory, limits, held, lambda _what, _done, _total: None)
        return b"".join(plain.chunks())


def test_gzip_members_are_one_layer(tmp_path: Path) -> None:
    """A layer packed as several gzip members unpacks to all of them, and leaves no file."""
    assert unpacked(gzip.compress(b"first") + gzip.compress(b"second"), tmp_path, Limits()) == b"firstsecond"
    assert [path.name for path in tmp_path.iterdir()] == ["layer"]


def packed_zstd(data: bytes, window: int | None = None) -> bytes:
    """Pack in one frame, whose reader needs so large a window."""
    level = zstd.CompressionParameter.compression_level
    options: dict[int, int] = {level: 1}
    if window is not None:
        options |= {zstd.CompressionParameter.window_log: window}
    packer = zstd.ZstdCompressor(options=options)
    return packer.compress(data) + packer.flush()


def test_zstd_frames_are_one_layer(tmp_path: Path) -> None:
    """Several frames, and frames to be skipped as zstd:chunked has them, unpack to one layer."""
    skipped = b"\x50\x2a\x4d\x18\4\0\0\0skip"
    data = packed_zstd(b"first") + skipped + packed_zstd(b"second") + skipped
    assert unpacked(data, tmp_path, Limits()) == b"firstsecond"
    assert [path.name for path in tmp_path.iterdir()] == ["layer"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(bytes(1 << 22)), "unpacks to more than 1048576 bytes"),
        (bytes(1 << 21), "2097152 bytes long; expected at most"),
        (gzip.compress(b"x" * 1000)[:-9], "not valid gzip"),
        (gzip.compress(b"x") + b"trailing", "not valid gzip"),
        (b"\x1f\x8b" + bytes(20), "not valid gzip"),
        (packed_zstd(bytes(1 << 22)), "unpacks to more than 1048576 bytes"),
        (packed_zstd(os.urandom(1000))[:-9], "not valid zstd"),
        (packed_zstd(b"x") + b"trailing", "not valid zstd"),
        (packed_zstd(b"x" * 100, window=28), "not valid zstd"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "not valid zstd"),
        (b"\xfd7zXZ\0" + bytes(20), "compressed with xz"),
    ],
)
def test_bombs_and_damage_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    """A layer that unpacks without end, is damaged or in another format is refused, and leaves no file."""
    with pytest.raises(BuildError, match=message):
        unpacked(data, tmp_path, Limits(size=1 << 20))
    assert [path.name for path in tmp_path.iterdir()] == ["layer"]
