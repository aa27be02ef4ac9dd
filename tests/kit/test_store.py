"""Kits on disk: found by architecture, named by digest, never half there."""

import re

import pytest

from cloister.kit import Kit, KitError, KitManifest, KitMissingError, choose_kit, find_kit, list_kits, use_kit
from cloister.kit.manifest import FILES
from cloister.kit.store import digests_of, install_kit, new_kit_directory
from cloister.places import Places


def install_second(places: Places, kit: Kit) -> Kit:
    """Install a kit that differs from the first in its kernel."""
    with new_kit_directory(places) as scratch:
        for name in FILES:
            (scratch / name).write_bytes((kit.directory / name).read_bytes())
        (scratch / "kernel").write_bytes(b"kernel two")
        fields = {name: getattr(kit.manifest, name) for name in KitManifest.__dataclass_fields__}
        manifest = KitManifest(**fields | {"files": digests_of(scratch, FILES)})
        return install_kit(places, scratch, manifest)


def test_the_kit_in_use_is_found_whole(places: Places, kit: Kit) -> None:
    """Every property comes from its files, which are read-only."""
    found = find_kit(places)
    found.verify()
    assert (found.digest, found.architecture, found.kernel_version) == (kit.digest, "x86_64", "6.12.1")
    assert found.cmdline == "console=ttyS0 reboot=t"
    assert found.directory.name == kit.digest
    assert found.init.stat().st_mode & 0o777 == 0o555
    assert found.kernel.stat().st_mode & 0o777 == 0o444


def test_without_a_kit_the_error_says_how_to_get_one(places: Places) -> None:
    """Also for an architecture that nobody builds."""
    with pytest.raises(KitMissingError, match=r"run 'cloister setup'"):
        find_kit(places)
    with pytest.raises(KitMissingError, match="riscv64"):
        find_kit(places, "riscv64")


def test_kits_are_listed_and_chosen_by_the_beginning_of_their_digest(places: Places, kit: Kit) -> None:
    """A prefix that fits none or several is refused; what is no kit is passed over."""
    second = install_second(places, kit)
    (places.kits / "abc").mkdir()
    assert {found.digest for found in list_kits(places)} == {kit.digest, second.digest}
    assert choose_kit(places, second.digest[:20]).digest == second.digest
    for prefix in ("", "xyz"):
        with pytest.raises(KitMissingError, match="expected exactly one"):
            choose_kit(places, prefix)
    use_kit(places, second)
    assert find_kit(places).digest == second.digest


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_kit_is_named_and_never_put_to_use(places: Places, kit: Kit, name: str) -> None:
    """One changed byte in any file, or a file that is gone."""
    path = kit.directory / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(KitError, match=re.escape(name)):
        use_kit(places, kit)
    path.unlink()
    with pytest.raises(KitError, match=rf"{re.escape(name)} is missing"):
        find_kit(places).verify()


def test_a_manifest_under_another_name_is_refused(places: Places, kit: Kit) -> None:
    """A directory that is not named by its manifest's digest is not a kit."""
    other = places.kits / ("0" * 64)
    kit.directory.rename(other)
    link = places.kits / "current-x86_64"
    link.unlink()
    link.symlink_to(other.name)
    with pytest.raises(KitError, match="expected its directory's name"):
        find_kit(places)


def test_installing_again_mends_what_was_damaged(places: Places, kit: Kit) -> None:
    """The same kit twice is one kit, and a damaged one is replaced."""
    kept = {name: (kit.directory / name).read_bytes() for name in FILES}
    (kit.directory / "kernel").chmod(0o644)
    (kit.directory / "kernel").write_bytes(b"rotten")
    with new_kit_directory(places) as scratch:
        for name, content in kept.items():
            (scratch / name).write_bytes(content)
        again = install_kit(places, scratch, kit.manifest)
    again.verify()
    assert [path for path in places.kits.iterdir() if path.name.startswith(".")] == []


def test_a_failed_build_leaves_nothing(places: Places) -> None:
    """The scratch directory is gone whatever happens."""

    def fail() -> None:
        with new_kit_directory(places) as scratch:
            (scratch / "kernel").write_bytes(b"x")
            raise KitError("on purpose")

    with pytest.raises(KitError, match="on purpose"):
        fail()
    assert list(places.kits.iterdir()) == []
