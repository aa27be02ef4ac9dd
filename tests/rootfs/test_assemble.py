"""Assembling root filesystems, from packages made here and a stand-in archive: no network."""

import ast
import hashlib
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from cloister.packages import Package, PackageError
from cloister.places import Places
from cloister.rootfs import (
    Lock,
    LockedPackage,
    LockedWheel,
    LockError,
    RecipeError,
    assemble_root,
    open_example,
)
from cloister.rootfs.archive import fetch_packages
from cloister.rootfs.assemble import KEPT_TREES, LIBRARY, PACKAGE
from cloister.rootfs.tree import entries, library_files, prune
from cloister.rootfs.wheels import unpack_wheel

RECIPE = """
[root]
suites = ["bookworm"]
packages = ["greeting"]
leave_out = ["usr/share"]
[root.links]
"usr/bin/hi" = "greet"
[files]
"app/main" = "main.sh"
[image]
cmd = ["/app/main"]
env = ["LANG=C"]
"""


def make_package(directory: Path) -> Path:
    """Build a small package with a program and a manual."""
    tree = directory / "tree"
    for name, mode in (("usr/bin/greet", 0o755), ("usr/share/doc/greeting/copyright", 0o644)):
        path = tree / name
        path.parent.mkdir(parents=True)
        path.write_text(f"{name}\n")
        path.chmod(mode)
    control = tree / "DEBIAN/control"
    control.parent.mkdir()
    control.write_text(
        "Package: greeting\nVersion: 1:2.0\nArchitecture: amd64\n"
        "Maintainer: nobody <n@example.com>\nDescription: x\n"
    )
    deb = directory / "greeting_1%3a2.0_amd64.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True)
    return deb


def pin_of(deb: Path) -> LockedPackage:
    """Pin the package made by ``make_package``."""
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    return LockedPackage("greeting", "1:2.0", "amd64", "pool/main/g/greeting.deb", deb.stat().st_size, digest)


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package once."""
    return make_package(tmp_path_factory.mktemp("deb"))


def make_places(directory: Path, deb: Path | None) -> Places:
    """Return places whose cache holds the package, or nothing."""
    places = Places(*(directory / name for name in ("run", "logs", "state", "cache", "artifacts")))
    if deb is not None:
        cached = places.downloads / pin_of(deb).sha256 / deb.name
        cached.parent.mkdir(parents=True)
        shutil.copyfile(deb, cached)
    return places


@pytest.fixture
def example(tmp_path: Path, deb: Path) -> Path:
    """Make an example's directory: recipe, lock and the file it names."""
    directory = tmp_path / "example"
    directory.mkdir()
    (directory / "enclave.toml").write_text(RECIPE)
    (directory / "lock.json").write_text(Lock(("bookworm",), "amd64", (pin_of(deb),), ()).to_json())
    (directory / "main.sh").write_text("echo\n")
    return directory


def listing(root: Path) -> list[tuple[str, int, str]]:
    """Return every entry's path, mode, and content or target."""
    return [
        (
            str(path.relative_to(root)),
            stat.S_IMODE(path.lstat().st_mode),
            str(path.readlink()) if path.is_symlink() else path.read_text(),
        )
        for path in entries(root)
    ]


def test_tree_is_the_same_whatever_the_umask(tmp_path: Path, example: Path, deb: Path) -> None:
    """Two caches, two umasks, one tree: same files, modes, contents, and the same name."""
    first = assemble_root(make_places(tmp_path / "a", deb), example, offline=True)
    old = os.umask(0o077)
    try:
        second = assemble_root(make_places(tmp_path / "b", deb), example, offline=True)
    finally:
        os.umask(old)
    assert listing(first) == listing(second)
    assert first.name == second.name
    assert ("usr/bin/greet", 0o755, "usr/bin/greet\n") in listing(first)
    assert not (first / "usr/share").exists()


def test_second_run_takes_the_tree_from_the_cache(tmp_path: Path, example: Path, deb: Path) -> None:
    """A tree that is there is not made again, even when its packages are gone."""
    places = make_places(tmp_path, deb)
    first = assemble_root(places, example, offline=True)
    shutil.rmtree(places.downloads)
    assert assemble_root(places, example, offline=True) == first


def test_old_trees_make_room_for_new_ones(tmp_path: Path, example: Path, deb: Path) -> None:
    """The cache keeps the trees used last: a tree of long ago goes when a new one is made."""
    places = make_places(tmp_path, deb)
    for number in range(KEPT_TREES):
        old = places.cache / "roots" / f"{number:032x}"
        old.mkdir(parents=True)
        os.utime(old, (number, number))
    new = assemble_root(places, example, offline=True)
    left = sorted(path.name for path in (places.cache / "roots").iterdir() if path.is_dir())
    assert left == sorted([*(f"{number:032x}" for number in range(1, KEPT_TREES)), new.name])


def test_offline_names_what_is_missing(tmp_path: Path, example: Path) -> None:
    """Without network and cache the first missing package is named, and no half-made tree stays."""
    places = make_places(tmp_path, None)
    with pytest.raises(LockError, match=r"greeting 1:2\.0 is not in the cache"):
        assemble_root(places, example, offline=True)
    assert not [path for path in (places.cache / "roots").iterdir() if path.is_dir()]


def test_lock_of_another_recipe_is_refused(tmp_path: Path, example: Path) -> None:
    """A recipe that names a package its lock does not pin asks for --update-lock."""
    recipe = example / "enclave.toml"
    recipe.write_text(recipe.read_text().replace('"greeting"]', '"greeting", "farewell"]'))
    with pytest.raises(RecipeError, match="--update-lock"):
        assemble_root(make_places(tmp_path, None), example, offline=True)


def test_example_gets_its_own_files_and_leaves_the_shared_tree_alone(
    tmp_path: Path, example: Path, deb: Path
) -> None:
    """The complete tree holds the recipe's files and vanishes afterwards; the cached one never changes."""
    places = make_places(tmp_path, deb)
    base = assemble_root(places, example, offline=True)
    before = listing(base)
    with open_example(places, example, offline=True) as assembled:
        assert (assembled.root / "app/main").read_text() == "echo\n"
        assert assembled.cmd == ("/app/main",)
        assert assembled.env == ("LANG=C",)
    assert not assembled.root.exists()
    assert listing(base) == before


def test_directories_of_the_recipes_files_are_the_same_whatever_the_umask(
    tmp_path: Path, example: Path, deb: Path
) -> None:
    """A directory that only a recipe's file needs is for everybody, as those of packages are."""
    old = os.umask(0o077)
    try:
        with open_example(make_places(tmp_path, deb), example, offline=True) as assembled:
            modes = {
                path: stat.S_IMODE((assembled.root / path).stat().st_mode) for path in ("app", "app/main")
            }
    finally:
        os.umask(old)
    assert modes == {"app": 0o755, "app/main": 0o644}


def test_recipe_that_is_not_utf8_is_named(tmp_path: Path, example: Path) -> None:
    """Recipes and locks are UTF-8 in every locale."""
    for name, error in (("lock.json", LockError), ("enclave.toml", RecipeError)):
        with (example / name).open("ab") as file:
            file.write(b"# \xff")
        with pytest.raises(error, match=rf"{name} is not UTF-8 at byte \d+$"):
            assemble_root(make_places(tmp_path, None), example, offline=True)


def test_missing_file_of_a_recipe_is_named(tmp_path: Path, example: Path, deb: Path) -> None:
    """A file the recipe names and nobody has is one sentence, not a traceback."""
    (example / "main.sh").unlink()
    with (
        pytest.raises(RecipeError, match=r"main\.sh, which the recipe names"),
        open_example(make_places(tmp_path, deb), example, offline=True),
    ):
        pass


class StandInArchive:
    """An archive that holds one version of one package: a simulator with the interface of PackageSource."""

    offline = False

    def __init__(self, package: Package, served: Path | None, directory: Path) -> None:
        self._package, self._served, self._directory = package, served, directory

    def update(self) -> None:
        """Have nothing to fetch."""

    def resolve(self, names: Sequence[str]) -> list[Package]:
        """Return the one package."""
        return [self._package] if self._package.name in names else []

    def fetch(self, package: Package) -> Path:
        """Serve the file when it is asked for at its own address, else answer as apt does."""
        if self._served is None or package.uri != self._package.uri:
            raise PackageError(f"cannot download {package.filename}: E: 404  Not Found")
        return self._served

    def path_of(self, package: Package) -> Path:
        """Return a place where nothing is."""
        return self._directory / package.sha256


def current(pin: LockedPackage, filename: str, sha256: str) -> Package:
    """Return what the archive has now."""
    uri = f"http://mirror.example/debian/{filename}"
    return Package(pin.name, pin.version, pin.architecture, uri, "x.deb", pin.size, sha256)


def test_version_that_left_its_archive_is_named(tmp_path: Path, deb: Path) -> None:
    """A pin the archive has replaced is one sentence with its name, its version and --update-lock."""
    pin = pin_of(deb)
    archive = StandInArchive(current(pin, "pool/main/g/newer.deb", "f" * 64), deb, tmp_path)
    with pytest.raises(LockError, match=r"greeting 1:2\.0 has left its archive; .*--update-lock"):
        fetch_packages(archive, [pin], progress=lambda _: None)


def test_archive_that_fails_for_another_reason_says_so(tmp_path: Path, deb: Path) -> None:
    """A failing download of a pin that is still there is not blamed on the lock."""
    pin = pin_of(deb)
    archive = StandInArchive(current(pin, pin.filename, pin.sha256), None, tmp_path)
    with pytest.raises(PackageError, match="404"):
        fetch_packages(archive, [pin], progress=lambda _: None)


def test_pin_is_fetched_below_the_mirror_this_host_uses(tmp_path: Path, deb: Path) -> None:
    """The lock's relative path is joined to the address of the archive that apt knows."""
    pin = pin_of(deb)
    archive = StandInArchive(current(pin, pin.filename, pin.sha256), deb, tmp_path)
    assert fetch_packages(archive, [pin], progress=lambda _: None) == [deb]


def test_keep_removes_everything_else(tmp_path: Path) -> None:
    """With keep patterns only what they name stays, and empty directories go."""
    for name in ("usr/bin/busybox", "usr/share/doc/x", "etc/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    prune(tmp_path, keep=["usr/bin/busybox"], leave_out=[])
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "usr",
        "usr/bin",
        "usr/bin/busybox",
    ]


def test_wheel_cannot_leave_its_directory(tmp_path: Path) -> None:
    """A member with .. in its path stops the unpacking."""
    with zipfile.ZipFile(tmp_path / "bad.whl", "w") as wheel:
        wheel.writestr("../escaped.py", "")
    with pytest.raises(LockError, match="leaves its directory"):
        unpack_wheel(tmp_path / "bad.whl", tmp_path / "out")
    assert not (tmp_path / "escaped.py").exists()


def test_wheel_that_is_not_cached_is_named_offline(tmp_path: Path, example: Path, deb: Path) -> None:
    """A wheel that would have to be fetched is named when that is forbidden."""
    recipe, lock = example / "enclave.toml", example / "lock.json"
    recipe.write_text(recipe.read_text().replace("leave_out", 'wheels = ["cffi==2.1"]\nleave_out'))
    pins = Lock(
        ("bookworm",), "amd64", (pin_of(deb),), (LockedWheel("cffi", "2.1", "cffi-2.1.whl", "b" * 64),)
    )
    lock.write_text(pins.to_json())
    with pytest.raises(LockError, match=r"cffi-2\.1\.whl is not in the cache"):
        assemble_root(make_places(tmp_path, deb), example, offline=True)


def test_library_in_the_enclave_is_complete() -> None:
    """The rooms put into an enclave import no room that is left out."""
    imported = set()
    for path in library_files(PACKAGE, LIBRARY):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cloister."):
                imported.add(str(node.module).split(".")[1])
    assert "errors" in imported
    assert imported <= set(LIBRARY)
