"""Put a root filesystem together from a recipe and its lock, once; afterwards it comes from the cache.

A tree's directory is named by the digest of everything that went into it: recipe, lock, this library's
source, and the version of the rules below. This library is not in the lock: what runs inside the enclave is
the very source that runs outside, and its digest is part of the name (docs/decisions/0070).
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import cloister
from cloister.packages import unpack_package
from cloister.places import Places, own_architecture
from cloister.rootfs.archive import Progress, fetch_packages, lock_packages, open_archive
from cloister.rootfs.lock import Lock, read_lock
from cloister.rootfs.program import compile_program
from cloister.rootfs.recipe import LOCK_NAME, RECIPE_NAME, Recipe, RecipeError, read_recipe
from cloister.rootfs.tree import (
    MODULES,
    copy_library,
    library_files,
    link_tree,
    make_directories,
    normalise,
    precompile,
    prune,
)
from cloister.rootfs.wheels import fetch_wheels, lock_wheels, unpack_wheel

RULES = 1
"""Raise this when the code below makes different trees from the same ingredients."""
KEPT_TREES = 8
DEBIAN_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}
PACKAGE = Path(cloister.__file__).parent
EXAMPLES = PACKAGE / "examples"
LIBRARY = (
    "errors",
    "cose",
    "cms",
    "aws",
    "pcrs",
    "pki",
    "attestation",
    "nsm",
    "vsock",
    "places",
    "transport",
    "sdk",
)
"""The in-enclave library and the rooms it stands on (tests/rootfs checks that nothing is missing)."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A root filesystem with the program in it, and how the program is started."""

    root: Path
    cmd: tuple[str, ...]
    env: tuple[str, ...]


def assemble_root(
    places: Places,
    directory: Path,
    *,
    offline: bool = False,
    update_lock: bool = False,
    progress: Progress = lambda _: None,
) -> Path:
    """Return the root filesystem that the recipe in ``directory`` asks for, without the recipe's own files.

    LockError, PackageError, RecipeError or TreeError say why it cannot be had. The tree is shared: do not
    change it.
    """
    recipe = read_recipe(directory)
    if update_lock and recipe.packages:
        progress("asking the archives for current versions")
        (directory / LOCK_NAME).write_text(_new_lock(places, recipe).to_json())
    lock = _lock_of(recipe, directory)
    roots = places.cache / "roots"
    target = roots / _key(recipe, lock)
    if target.is_dir():
        with suppress(OSError):
            os.utime(target)
        return target
    roots.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(roots / ".lock"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=roots, prefix=".new-") as scratch:
                tree = Path(scratch, "root")
                _assemble(places, recipe, lock, tree, offline=offline, progress=progress)
                os.utime(tree)
                tree.rename(target)
            _forget_old(roots)
    return target


def assemble_python_root(
    places: Places, *, offline: bool = False, update_lock: bool = False, progress: Progress = lambda _: None
) -> Path:
    """Return the root filesystem of ``examples/secret``: Python, ``cryptography`` and this library."""
    return assemble_root(
        places, EXAMPLES / "secret", offline=offline, update_lock=update_lock, progress=progress
    )


def assemble_examples(
    places: Places, *, offline: bool = False, update_lock: bool = False, progress: Progress = lambda _: None
) -> dict[str, Path]:
    """Return the root filesystem of every example, by name; what set-up does beforehand."""
    directories = sorted(path.parent for path in EXAMPLES.glob("*/enclave.toml"))
    return {
        directory.name: assemble_root(
            places, directory, offline=offline, update_lock=update_lock, progress=progress
        )
        for directory in directories
    }


@contextmanager
def open_example(
    places: Places,
    directory: Path,
    *,
    offline: bool = False,
    update_lock: bool = False,
    architecture: str = "",
    progress: Progress = lambda _: None,
) -> Iterator[Assembled]:
    """Yield the complete root filesystem, with the recipe's files in it, for as long as the block lasts.

    Programs are compiled for ``architecture``, by default this host's; packages are of the recipe's own, and
    if it has any, the two must agree. Raises RecipeError.
    """
    recipe = read_recipe(directory)
    architecture = architecture or own_architecture()
    if recipe.packages and recipe.architecture != DEBIAN_ARCHITECTURE.get(architecture):
        raise RecipeError(
            f"{directory / RECIPE_NAME} names packages for {recipe.architecture}: "
            f"expected {DEBIAN_ARCHITECTURE.get(architecture)}, for the image is for {architecture}"
        )
    base = assemble_root(places, directory, offline=offline, update_lock=update_lock, progress=progress)
    with tempfile.TemporaryDirectory(dir=base.parent, prefix=".image-") as scratch:
        root = Path(scratch, "root")
        link_tree(base, root)
        for path, source in recipe.files:
            target = root / path
            target.unlink(missing_ok=True)
            make_directories(target.parent, root)
            try:
                shutil.copyfile(directory / source, target)
            except OSError as error:
                raise RecipeError(
                    f"{directory / source}, which the recipe names, cannot be read: {error.strerror}"
                ) from error
            target.chmod(0o644)
        for path, source in recipe.programs:
            make_directories((root / path).parent, root)
            compile_program(directory / source, root / path, architecture)
        yield Assembled(root, recipe.cmd, recipe.env)


def _assemble(
    places: Places, recipe: Recipe, lock: Lock, tree: Path, *, offline: bool, progress: Progress
) -> None:
    packages = fetch_packages(open_archive(places, lock, offline=offline), lock.packages, progress=progress)
    wheels = fetch_wheels(
        lock.wheels, places.downloads / "wheels", architecture=lock.architecture, offline=offline
    )
    progress("unpacking packages and wheels")
    tree.mkdir()
    for package in packages:
        unpack_package(package, tree)
    for wheel in wheels.values():
        unpack_wheel(wheel, tree / MODULES)
    prune(tree, keep=recipe.keep, leave_out=recipe.leave_out)
    if recipe.library:
        copy_library(PACKAGE, tree, LIBRARY)
    for path, link in recipe.links:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(link)
    progress("compiling Python modules")
    precompile(tree)
    normalise(tree)


def _forget_old(roots: Path) -> None:
    """Remove the trees used longest ago, and what killed processes left behind a day ago."""
    trees = sorted((path for path in roots.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    finished = [path for path in trees if not path.name.startswith(".")]
    stale = [
        path for path in trees if path.name.startswith(".") and path.stat().st_mtime < time.time() - 86400
    ]
    for path in [*finished[:-KEPT_TREES], *stale]:
        shutil.rmtree(path, ignore_errors=True)


def _new_lock(places: Places, recipe: Recipe) -> Lock:
    packages = lock_packages(places, recipe.packages, suites=recipe.suites, architecture=recipe.architecture)
    wheels = lock_wheels(recipe.wheels, places.downloads / "wheels", architecture=recipe.architecture)
    return Lock(recipe.suites, recipe.architecture, tuple(packages), tuple(wheels))


def _lock_of(recipe: Recipe, directory: Path) -> Lock:
    """Return what pins the recipe's packages and wheels; a recipe without any needs no file for it."""
    if not recipe.packages and not recipe.wheels:
        return Lock(recipe.suites, recipe.architecture, (), ())
    lock = read_lock(directory / LOCK_NAME)
    _check_lock(recipe, lock, directory)
    return lock


def _check_lock(recipe: Recipe, lock: Lock, directory: Path) -> None:
    """Refuse a lock that was made for another recipe."""
    locked = {pin.name for pin in lock.packages}
    wheels = {f"{pin.name}=={pin.version}" for pin in lock.wheels}
    if locked != set(recipe.packages) or (lock.suites, lock.architecture) != (
        recipe.suites,
        recipe.architecture,
    ):
        raise RecipeError(
            f"{directory / LOCK_NAME} does not pin what the recipe names; --update-lock makes it anew"
        )
    if unpinned := set(recipe.wheels) - wheels:
        raise RecipeError(
            f"{directory / LOCK_NAME} does not pin {min(unpinned)}; --update-lock makes it anew"
        )


def _key(recipe: Recipe, lock: Lock) -> str:
    """Digest everything the tree depends on, the recipe's own files and command aside."""
    ingredients = asdict(recipe)
    for name in ("files", "programs", "cmd", "env"):
        del ingredients[name]
    digest = hashlib.sha256(f"{RULES}\n{lock.digest}\n{json.dumps(ingredients, sort_keys=True)}\n".encode())
    for path in library_files(PACKAGE, LIBRARY) if recipe.library else ():
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(PACKAGE)} {content}\n".encode())
    return digest.hexdigest()[:32]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One assembly at a time: the second process finds the first one's result."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
