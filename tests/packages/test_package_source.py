"""Resolving, fetching and unpacking against a real archive: one on this disk, signed by a key made here."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.packages import PackageError, PackageSource, unpack_package
from cloister.packages import source as source_module
from cloister.packages.sources import Archive
from cloister.places import Places
from simulators.package_archive import SigningKey, build_archive

NEEDED = ("apt-get", "dpkg-deb", "tar")
pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in NEEDED), reason=f"this host lacks one of {', '.join(NEEDED)}"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Make a signed archive with two packages."""
    root = tmp_path_factory.mktemp("archive")
    keyring = build_archive(root, {"leaf": "", "tree": "leaf"})
    return Archive(f"file:{root}", "test", ("main",), str(keyring))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Give every test places of its own."""
    return Places.from_environment({}, root=False, home=tmp_path / "home")


@pytest.fixture
def source(places: Places, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> PackageSource:
    """Configure this "host" with the test archive alone."""
    monkeypatch.setattr(source_module, "host_archives", lambda: [archive])
    return PackageSource(places, suites=["test"])


def test_dependencies_are_resolved_fetched_verified_and_unpacked(
    source: PackageSource, tmp_path: Path
) -> None:
    """From a name to files in a merged-/usr tree, with progress, and from the cache alone afterwards."""
    source.update()
    packages = source.resolve(["tree"])
    assert [package.name for package in packages] == ["leaf", "tree"]
    seen: list[tuple[int, int, str]] = []
    files = source.fetch_all(packages, progress=lambda *step: seen.append(step))
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] == [p.sha256 for p in packages]
    assert seen[-1][0] == seen[-1][1] == sum(package.size for package in packages)
    for file in files:
        unpack_package(file, tmp_path / "root")
    assert (tmp_path / "root/usr/lib/leaf").read_text() == "leaf"
    assert (tmp_path / "root/lib").readlink() == Path("usr/lib")
    source.offline = True
    assert source.fetch_all(packages) == files


def test_offline_fetches_nothing_and_says_so(source: PackageSource) -> None:
    """Neither indexes nor packages come from anywhere but the cache."""
    source.offline = True
    with pytest.raises(PackageError, match="indexes were never fetched"):
        source.resolve(["tree"])
    source.offline = False
    package = source.resolve(["leaf"])[0]
    source.offline = True
    with pytest.raises(PackageError, match=r"leaf_1\.0_all\.deb is not in the cache"):
        source.fetch(package)


def test_a_package_that_is_not_what_was_promised_is_refused(source: PackageSource) -> None:
    """A wrong digest leaves nothing in the cache, and a damaged cache is not believed."""
    package = source.resolve(["leaf"])[0]
    wrong = replace(package, sha256="0" * 64)
    with pytest.raises(PackageError, match=r"cannot download leaf_1\.0_all\.deb"):
        source.fetch(wrong)
    assert not list(source.path_of(wrong).parent.iterdir())
    good = source.fetch(package)
    good.write_bytes(bytes(package.size))
    assert hashlib.sha256(source.fetch(package).read_bytes()).hexdigest() == package.sha256


def test_an_archive_signed_by_nobody_we_know_is_refused(
    places: Places, archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The verification of apt stands between us and a mirror."""
    (tmp_path / "other.gpg").write_bytes(SigningKey().public)
    stranger = replace(archive, signed_by=str(tmp_path / "other.gpg"))
    monkeypatch.setattr(source_module, "host_archives", lambda: [stranger])
    with pytest.raises(PackageError, match="cannot fetch the package indexes"):
        PackageSource(places, suites=["test"]).update()


def test_a_package_nobody_has_is_named(source: PackageSource) -> None:
    """The sentence holds the package's name and apt's reason."""
    with pytest.raises(PackageError, match=r"cannot resolve nonesuch.*nonesuch"):
        source.resolve(["nonesuch"])


def test_a_file_that_is_no_package_is_refused(tmp_path: Path) -> None:
    """Unpacking says which file is not sound."""
    (tmp_path / "x.deb").write_bytes(b"nothing")
    with pytest.raises(PackageError, match=r"cannot unpack x\.deb"):
        unpack_package(tmp_path / "x.deb", tmp_path / "root")
