"""The jail's root: only what is needed, read-only, named by its content, whole or absent."""

import os
import shutil
from pathlib import Path

import pytest

from cloister.places import Places
from cloister.setup import JailRoot, JailRootError, ensure_jail_root, open_jail_root
from cloister.setup import jail_root as module
from cloister.setup.shared_libraries import library_closure

DIRECTORIES = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/lib64",
    "/lib",
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Give every test places of its own."""
    return Places.from_environment({}, root=False, home=tmp_path / "home")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Make a tree as packages leave it, in which tar plays the emulator."""
    root = tmp_path / "unpacked"
    program = Path("/usr/bin/tar").resolve()
    for inside, file in library_closure([program], root=Path("/"), directories=DIRECTORIES):
        place = root / inside.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(program, root / "usr/bin/qemu-system-x86_64")
    shutil.copy(program, root / "usr/bin/qemu-system-sparc")
    (root / "usr/share/qemu").mkdir(parents=True)
    for name in ("qboot.rom", "pvh.bin", "openbios-ppc"):
        (root / "usr/share/qemu" / name).write_text(name)
    (root / "usr/share/doc").mkdir()
    (root / "usr/share/doc/readme").write_text("text")
    return root


def make(places: Places, unpacked: Path) -> JailRoot:
    """Assemble and install a root from the unpacked tree."""
    with module._scratch_in(places.jails) as scratch:
        module._assemble(unpacked, unpacked / "usr/bin/qemu-system-x86_64", scratch / "root", "x86_64")
        return module._install(places, scratch / "root", "test", "x86_64")


def test_only_what_the_emulator_needs_is_there_and_nothing_can_be_written(
    places: Places, unpacked: Path
) -> None:
    """Emulator, loader, libraries, firmware and empty mount points; no documentation, no other emulators."""
    places.jails.mkdir(parents=True)
    root = make(places, unpacked)
    names = {Path(path).name for path in root.files}
    assert {"qemu-system-x86_64", "libc.so.6", "qboot.rom", "pvh.bin"} <= names
    assert not names & {"qemu-system-sparc", "openbios-ppc", "readme"}
    assert list((root.directory / "proc").iterdir()) == []
    for directory, _, files in os.walk(root.directory):
        assert Path(directory).stat().st_mode & 0o222 == 0
        assert all(
            Path(directory, name).lstat().st_mode & 0o022 == 0 or Path(directory, name).is_symlink()
            for name in files
        )
    assert (places.jails / "current").resolve() == root.directory


def test_the_same_content_has_the_same_name(places: Places, unpacked: Path, tmp_path: Path) -> None:
    """Made twice, also elsewhere, the digest is equal; the second installation replaces the first."""
    elsewhere = Places.from_environment({}, root=False, home=tmp_path / "elsewhere")
    for each in (places, elsewhere):
        each.jails.mkdir(parents=True)
    assert make(places, unpacked).digest == make(places, unpacked).digest == make(elsewhere, unpacked).digest
    assert open_jail_root(places, "x86_64", check=True) == open_jail_root(places, "x86_64")


def test_damage_is_noticed(places: Places, unpacked: Path) -> None:
    """A missing file at once, changed bytes by the doctor's full check, a changed manifest always."""
    places.jails.mkdir(parents=True)
    root = make(places, unpacked)
    firmware = root.directory / "usr/share/qemu/qboot.rom"
    firmware.chmod(0o644)
    firmware.write_text("QBOOT.ROM")
    assert open_jail_root(places, "x86_64") is not None
    assert open_jail_root(places, "x86_64", check=True) is None
    firmware.parent.chmod(0o755)
    firmware.unlink()
    assert open_jail_root(places, "x86_64") is None
    root = make(places, unpacked)
    manifest = root.directory.with_suffix(".json")
    manifest.write_text(manifest.read_text().replace("test", "tost"))
    assert open_jail_root(places, "x86_64") is None


def test_what_is_whole_is_not_made_again(places: Places, unpacked: Path) -> None:
    """A second run needs neither network nor time."""
    places.jails.mkdir(parents=True)
    root = make(places, unpacked)
    again = ensure_jail_root(
        places, "x86_64", offline=True, progress=lambda *_: pytest.fail("there is nothing to do")
    )
    assert again == root


def test_without_a_known_release_the_error_says_what_to_install(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a new QEMU nor backports: one sentence, and nothing left behind."""
    monkeypatch.setattr(module, "_host_emulator", lambda _: None)
    monkeypatch.setattr(module, "read_os_release", lambda: {"VERSION_CODENAME": "noble"})
    with pytest.raises(JailRootError, match=r"no QEMU 10\.2 .* release 'noble': install one"):
        ensure_jail_root(places, "x86_64", offline=True, progress=lambda *_: None)
    assert [path.name for path in places.jails.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("architecture", "version", "taken"),
    [
        ("x86_64", "10.1.3", False),
        ("x86_64", "10.2.0", True),
        ("aarch64", "10.2.0", False),
        ("aarch64", "11.0.0", True),
    ],
)
def test_a_hosts_emulator_is_taken_if_it_is_new_enough(
    architecture: str, version: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For x86_64 from QEMU 10.2 on; for aarch64 from 11.0 on, which tells a virt machine its transports."""
    emulator = tmp_path / f"qemu-system-{architecture}"
    emulator.write_text(f"#!/bin/sh\necho QEMU emulator version {version}\n")
    emulator.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module._host_emulator(architecture) == (emulator if taken else None)


def test_an_emulator_without_firmware_is_refused(places: Places, unpacked: Path) -> None:
    """A QEMU that cannot boot a microvm is no use."""
    places.jails.mkdir(parents=True)
    (unpacked / "usr/share/qemu/qboot.rom").unlink()
    with pytest.raises(JailRootError, match=r"qboot\.rom"):
        make(places, unpacked)


def test_versions_are_read_from_what_qemu_prints() -> None:
    """Major and minor decide; anything else is not a version."""
    assert module.parse_version("QEMU emulator version 11.1.3 (Debian 1:11.1.3)\n") == (11, 1)
    assert module.parse_version("QEMU emulator version 9.2.0") == (9, 2)
    assert module.parse_version("bwrap: no such file") is None
