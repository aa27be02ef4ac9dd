"""A kit as one file: the same bytes every time, and nothing foreign gets in."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.kit import Kit, KitError, export_kit, find_kit, import_kit, list_kits, use_kit
from cloister.places import Places

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Places:
    """Give another host's places."""
    return Places.from_environment({}, root=False, home=tmp_path / "elsewhere")


def read(path: Path) -> Members:
    """Read every member of an archive."""
    with tarfile.open(path) as archive:
        return [(member, content.read()) for member in archive if (content := archive.extractfile(member))]


def write(path: Path, members: Members) -> None:
    """Write an archive of such members."""
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))


def test_a_kit_moves_whole_and_keeps_its_name(kit: Kit, elsewhere: Places, tmp_path: Path) -> None:
    """Export here, import there: the same digest, files and modes."""
    export_kit(kit, tmp_path / "kit.tar")
    moved = import_kit(elsewhere, tmp_path / "kit.tar", digest=kit.digest)
    use_kit(elsewhere, moved)
    assert find_kit(elsewhere).manifest == kit.manifest
    assert moved.init.read_bytes() == kit.init.read_bytes()


def test_the_file_is_the_same_bytes_every_time(kit: Kit, tmp_path: Path) -> None:
    """Neither time, umask nor the files' own times show; nothing else is left beside it."""
    export_kit(kit, tmp_path / "a.tar")
    for path in kit.directory.iterdir():
        os.utime(path, (1, 1))
    before = os.umask(0o077)
    try:
        export_kit(kit, tmp_path / "b.tar")
    finally:
        os.umask(before)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*tar*")) == ["a.tar", "b.tar"]


def test_a_device_is_not_replaced_by_a_kit(kit: Kit) -> None:
    """What is there and is no file stays: /dev/null belongs to everybody on the host."""
    with pytest.raises(KitError, match="cannot write /dev/null: it is not a file"):
        export_kit(kit, Path("/dev/null"))


def rename(members: Members) -> None:
    """Let a member leave the directory."""
    members[1][0].name = "../cmdline"


def link(members: Members) -> None:
    """Make a member a link."""
    members[2][0].type, members[2][0].linkname = tarfile.SYMTYPE, "/etc/passwd"


def surplus(members: Members) -> None:
    """Add a foreign member."""
    members.append((tarfile.TarInfo("authorized_keys"), b"ssh-rsa"))


def change(members: Members) -> None:
    """Change one byte of the kernel."""
    members[3] = (members[3][0], members[3][1][:-1] + b"!")


def drop(members: Members) -> None:
    """Leave the last member out."""
    members.pop()


def reorder(members: Members) -> None:
    """Put the manifest last."""
    members.append(members.pop(0))


@pytest.mark.parametrize("tamper", [rename, link, surplus, change, drop, reorder])
def test_a_file_that_was_tampered_with_is_refused(
    kit: Kit, elsewhere: Places, tmp_path: Path, tamper: Callable[[Members], None]
) -> None:
    """Nothing of it is installed, and nothing is written outside."""
    export_kit(kit, tmp_path / "kit.tar")
    members = read(tmp_path / "kit.tar")
    tamper(members)
    write(tmp_path / "bad.tar", members)
    with pytest.raises(KitError):
        import_kit(elsewhere, tmp_path / "bad.tar")
    assert list_kits(elsewhere) == []
    assert list(elsewhere.kits.iterdir()) == []


def test_a_size_beyond_any_kit_is_refused_before_it_is_read(
    kit: Kit, elsewhere: Places, tmp_path: Path
) -> None:
    """The header's word alone must not fill a disk."""
    member = tarfile.TarInfo("manifest.json")
    member.size = 1 << 40
    (tmp_path / "huge.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(KitError, match="too many for a kit"):
        import_kit(elsewhere, tmp_path / "huge.tar")


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, os.urandom(4096), b"\x1f\x8b\x08" + bytes(100)])
def test_what_is_no_archive_is_refused(elsewhere: Places, tmp_path: Path, content: bytes) -> None:
    """Rubbish and compressed files give one sentence."""
    (tmp_path / "kit.tar").write_bytes(content)
    with pytest.raises(KitError):
        import_kit(elsewhere, tmp_path / "kit.tar")


def test_another_kit_than_the_expected_one_is_refused(kit: Kit, elsewhere: Places, tmp_path: Path) -> None:
    """A pinned digest admits one kit; a missing file is a sentence."""
    export_kit(kit, tmp_path / "kit.tar")
    with pytest.raises(KitError, match=f"holds kit {kit.digest}"):
        import_kit(elsewhere, tmp_path / "kit.tar", digest="0" * 64)
    with pytest.raises(KitError, match="No such file"):
        import_kit(elsewhere, tmp_path / "absent.tar")
    with pytest.raises(KitError, match="cannot write"):
        export_kit(kit, tmp_path / "absent/kit.tar")
