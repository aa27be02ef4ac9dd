"""The tar index: the formats layers come in, and archives made to hurt."""

import os
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.build.content import BuildError, Region
from cloister.build.tar import Member, TarEntry, read_tar
from simulators.image_sources import member, tar_of


def index(data: bytes, directory: Path) -> list[TarEntry]:
    path = directory / "archive.tar"
    path.write_bytes(data)
    with path.open("rb") as file:
        return list(read_tar(Region(file, 0, len(data), "archive.tar")))


def reheaded(block: bytes, offset: int, value: bytes) -> bytes:
    """Change a header and put the right checksum on it."""
    changed = block[:offset] + value + block[offset + len(value) :]
    total = sum(changed[:148]) + 8 * 32 + sum(changed[156:512])
    return changed[:148] + b"%06o\0 " % total + changed[156:]


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_what_tarfile_wrote(layout: int, tmp_path: Path) -> None:
    """Every kind of member of every format comes back with its fields."""
    long = "d" * 90 + "/" + "f" * 60
    data = tar_of(
        [
            member("dir/", tarfile.DIRTYPE, uid=3, gid=4),
            member(long, body=b"x" * 600, mode=0o4711),
            member("link", tarfile.SYMTYPE, linkname="../target"),
            member("hard", tarfile.LNKTYPE, linkname=long if layout != tarfile.USTAR_FORMAT else "dir"),
            member("tty", tarfile.CHRTYPE, devmajor=5, devminor=1),
            member("pipe", tarfile.FIFOTYPE),
        ],
        layout,
    )
    entries = index(data, tmp_path)
    kinds = [Member.DIRECTORY, Member.FILE, Member.SYMLINK, Member.HARDLINK, Member.CHARACTER, Member.FIFO]
    assert [entry.kind for entry in entries] == kinds
    assert (entries[0].uid, entries[0].gid) == (3, 4)
    assert (entries[1].name, entries[1].mode, entries[1].content.size) == (long.encode(), 0o4711, 600)
    assert entries[2].link == b"../target"
    assert (entries[4].major, entries[4].minor) == (5, 1)


def test_long_names_and_large_numbers(tmp_path: Path) -> None:
    """Names beyond 256 bytes and owners beyond octal digits arrive through GNU's and pax's extensions."""
    name, target = "n" * 200 + "/" + "m" * 200, "t" * 300
    for layout in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = tar_of([member(name, tarfile.SYMTYPE, linkname=target, uid=3_000_000_000)], layout)
        (entry,) = index(data, tmp_path)
        assert (entry.name, entry.link, entry.uid) == (name.encode(), target.encode(), 3_000_000_000)


@pytest.mark.parametrize(
    ("mtime", "expected"),
    [("5", 5), ("5.999", 5), (".5", 0), ("-1.5", 0), ("4294967295", 0xFFFFFFFF), ("4294967296", 0)],
)
def test_times_are_seconds_that_a_ramdisk_holds(mtime: str, expected: int, tmp_path: Path) -> None:
    """Fractions are cut off; a time before 1970 or after 2106 is 1970, as Docker has it."""
    data = tar_of([member("f", pax_headers={"mtime": mtime})])
    assert index(data, tmp_path)[0].mtime == expected
    plain = tar_of([member("f", mtime=float(mtime))], tarfile.GNU_FORMAT)
    assert index(plain, tmp_path)[0].mtime == expected


def test_names_stay_bytes(tmp_path: Path) -> None:
    """A name that is not UTF-8 is kept as it is."""
    block = reheaded(tar_of([member("name")])[:512], 0, b"n\xff\xfe\0")
    assert index(block, tmp_path)[0].name == b"n\xff\xfe"


@pytest.mark.parametrize("layout", ["gnu", "posix", "ustar"])
def test_gnu_tars_archives_are_what_it_packed(layout: str, tmp_path: Path) -> None:
    """Names that are no text, long ones, hard links and extended attributes, as GNU tar writes them."""
    names = [b"\xff\xfe", b"\xc3\xa9" * 40, b"d" * 90]
    names += [] if layout == "ustar" else [b"d" * 90 + b"/" + b"\xff" * 200]
    (tmp_path / os.fsdecode(names[2])).mkdir()
    for name in (*names[:2], *names[3:]):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    (tmp_path / "hard").hardlink_to(tmp_path / os.fsdecode(names[0]))
    with suppress(OSError):  # where the file system has them
        os.setxattr(tmp_path / os.fsdecode(names[1]), "user.note", b"lost")
    words = ["tar", "--xattrs"] if layout == "posix" else ["tar"]
    words += ["--no-recursion", f"--format={layout}", "--mtime=@77", "-cf", "x.tar", "--"]
    subprocess.run([*map(os.fsencode, words), *names, b"hard"], cwd=tmp_path, check=True)
    data = (tmp_path / "x.tar").read_bytes()
    with (tmp_path / "x.tar").open("rb") as file:
        entries = list(read_tar(Region(file, 0, len(data), "archive.tar")))
        bodies = [b"".join(entry.content.chunks()) for entry in entries]
    assert [entry.name.rstrip(b"/") for entry in entries] == [*names, b"hard"]
    assert (entries[-1].kind, entries[-1].link) == (Member.HARDLINK, names[0])
    assert {entry.mtime for entry in entries} == {77}
    assert bodies == [b"" if entry.kind is not Member.FILE else entry.name for entry in entries]


@given(st.lists(st.tuples(st.text("ab/é", max_size=150), st.binary(max_size=700)), max_size=5))
def test_index_round_trip(files: list[tuple[str, bytes]]) -> None:
    """Names and bytes of any files come back through the index."""
    named = [(f"{name}.", body) for name, body in files]
    data = tar_of([member(name, body=body) for name, body in named])
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        entries = list(read_tar(Region(file, 0, len(data), "archive.tar")))
        found = [(entry.name.decode(), b"".join(entry.content.chunks())) for entry in entries]
    assert found == named


def sparse_pax(body: bytes = b"", **records: str) -> bytes:
    """Return an archive of one member that pax calls sparse."""
    headers = {f"GNU.sparse.{key}": value for key, value in records.items()}
    return tar_of([member("f", body=body, pax_headers=headers)])


@pytest.mark.parametrize("pieces", [0, 1, 4, 5, 30, 100])
@pytest.mark.parametrize(
    "layout", ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix"]
)
def test_sparse_files_are_what_gnu_tar_packed(layout: str, pieces: int, tmp_path: Path) -> None:
    """A sparse member of every version comes back whole, in however many pieces, and so does the next."""
    with (tmp_path / "holes").open("wb") as file:
        for number in range(pieces):
            file.seek(number << 14)
            file.write(bytes([number + 1]) * 4096)
        file.truncate(2 << 20)
    body = (tmp_path / "holes").read_bytes()
    (tmp_path / "next").write_bytes(b"next")
    words = ["tar", "--sparse", "--hole-detection=raw", *f"--format={layout}".split(), "-cf", "x.tar"]
    subprocess.run([*words, "holes", "next"], cwd=tmp_path, check=True)
    data = (tmp_path / "x.tar").read_bytes()
    assert len(data) < 1 << 19  # the holes are not in it
    with (tmp_path / "x.tar").open("rb") as file:
        entries = list(read_tar(Region(file, 0, len(data), "archive.tar")))
        assert [entry.name for entry in entries] == [b"holes", b"next"]
        assert [entry.content.size for entry in entries] == [len(body), 4]
        assert [b"".join(entry.content.chunks()) for entry in entries] == [body, b"next"]


PLAIN = tar_of([member("file", body=b"body")], tarfile.USTAR_FORMAT)
OLD_SPARSE = reheaded(
    reheaded(PLAIN, 156, b"S"), 386, b"00000000000\0" + b"00000000004\0" + bytes(73) + b"00000000010\0"
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello" * 200, "not a tar archive"),
        (PLAIN[:300], "ends inside a tar header"),
        (PLAIN[:512], "is truncated"),
        (reheaded(PLAIN, 124, b"77777777777\0"), "is truncated"),
        (reheaded(PLAIN, 124, b"\x80" + b"\xff" * 11), "is truncated"),
        (reheaded(PLAIN, 124, b"\xff" * 12), "negative number"),
        (reheaded(PLAIN, 124, b"-0000000001\0"), "is not a number"),
        (reheaded(PLAIN, 124, b"0000000_004\0"), "is not a number"),
        (reheaded(PLAIN, 108, b"\x80" + b"\1" * 7), "owner or device number"),
        (reheaded(PLAIN, 156, b"Z"), "unknown type"),
        (reheaded(PLAIN, 156, b"S"), "map does not fit"),
        (reheaded(OLD_SPARSE, 386, b"00000000011\0" + b"00000000004\0"), "map does not fit"),
        (reheaded(OLD_SPARSE, 386, b"77777777777\0" + b"00000000004\0"), "map does not fit"),
        (reheaded(OLD_SPARSE, 482, b"\1")[:900], "endless map"),
        (reheaded(OLD_SPARSE, 483, b"\xff" * 12), "negative number"),
        (reheaded(PLAIN, 156, b"x"), "malformed pax header"),
        (sparse_pax(major="1"), "version other than"),
        (sparse_pax(major="1", minor="0", realsize="9"), "cut short"),
        (sparse_pax(b"9" * 600, major="1", minor="0", realsize="9"), "cut short"),
        (sparse_pax(b"x\n".ljust(512), major="1", minor="0", realsize="9"), "number is"),
        (sparse_pax(b"1\n0\n600\n".ljust(512, b"\0"), major="1", minor="0", realsize="9"), "does not fit"),
        (sparse_pax(map="0,1,2", size="9"), "3 numbers"),
        (sparse_pax(b"abcd", map="4,2,0,2", size="9"), "does not fit"),
        (sparse_pax(b"abcd", map="0,4", size="3"), "does not fit"),
        (sparse_pax(b"abcd", offset="0", size="9"), "map is malformed"),
        (tar_of([member("f", tarfile.FIFOTYPE, pax_headers={"GNU.sparse.map": "", "GNU.sparse.size": "9"})]),
         "no file"),
        (tar_of([member("f", pax_headers={"uid": "9" * 30})]), "number is"),
        (tar_of([member("f", pax_headers={"mtime": "now"})]), "time is"),
        (tar_of([member("f", pax_headers={"comment": "c" * (1 << 20)})]), "expected at most 1048576"),
        (tar_of([member("f", pax_headers={"comment": "c"})])[:1024], "after an extension header"),
    ],
)  # fmt: skip
def test_damage_and_bombs_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    """Truncated, negative, endless and unknown members are refused in one sentence."""
    with pytest.raises(BuildError, match=message) as refused:
        index(data, tmp_path)
    assert "\n" not in str(refused.value)


def test_flipped_header_bits_are_refused(tmp_path: Path) -> None:
    """A single flipped bit of a header is refused, or only respells the checksum."""
    (tmp_path / "archive.tar").write_bytes(PLAIN)
    with (tmp_path / "archive.tar").open("r+b", buffering=0) as file:
        region = Region(file, 0, len(PLAIN), "archive.tar")
        (expected,) = read_tar(region)
        for position in range(512 * 8):
            damaged = PLAIN[position // 8] ^ 1 << position % 8
            os.pwrite(file.fileno(), bytes([damaged]), position // 8)
            try:
                entries = list(read_tar(region))
            except BuildError:
                continue
            finally:
                os.pwrite(file.fileno(), PLAIN[:512], 0)
            assert 148 <= position // 8 < 156
            assert entries == [expected]
