"""What AWS calls blobs, made here: a kernel as its enclaves have it and its NSM driver.

Built once a host, from the distribution's source, in ``<cache>/foreign/<digest of the configuration>``.
The kernel comes twice: as AWS's is, a gzip-packed bzImage that only firmware can start; and with a PVH entry,
packed with XZ, as whoever builds a kernel of their own may have it. One nsm.ko fits both.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloister.errors import CloisterError
from cloister.kit import Progress
from cloister.kit.build import find_source
from cloister.kit.kernel import (
    KernelTree,
    build_kernel,
    configure_tree,
    kernel_release,
    prepare_tree,
)
from cloister.places import Places

WITH_PVH = {"# CONFIG_PVH is not set": "CONFIG_PVH=y", "CONFIG_KERNEL_GZIP=y": "CONFIG_KERNEL_XZ=y"}
NSM_DRIVER = "drivers/misc/nsm.ko"
PARTS = ("kernel", "kernel-pvh", "nsm.ko", "release")


class BlobsMissingError(CloisterError):
    """Nobody has built them on this host yet."""


@dataclass(frozen=True, slots=True)
class Blobs:
    """A directory with all of them."""

    directory: Path

    def read(self, name: str) -> bytes:
        """Return one of the parts."""
        return (self.directory / name).read_bytes()

    @property
    def release(self) -> str:
        """The kernel's version, such as ``6.12.118-foreign``."""
        return (self.directory / "release").read_text()


def find_blobs(places: Places) -> Blobs:
    """Return what was built; BlobsMissingError says how to build it."""
    directory = _home(places) / _digest()
    if not all((directory / name).is_file() for name in PARTS):
        raise BlobsMissingError("the foreign kernel has not been built on this host: run 'make foreign'")
    return Blobs(directory)


def build_blobs(places: Places, progress: Progress) -> Blobs:
    """Build what is not there yet, and forget what former texts of this directory made."""
    home = _home(places)
    with _only_builder(home, progress):
        try:
            return find_blobs(places)
        except BlobsMissingError:
            shutil.rmtree(home / "done", ignore_errors=True)
        (home / "done").mkdir()
        progress(0.0, "finding the kernel source")
        source, package = find_source(places, offline=False)
        archive = source.fetch(
            package, progress=lambda done, total, name: progress(0.03 * done / total, f"fetching {name}")
        )
        # a tree of its own, unpacked again (15 s) and removed again: decision 0108
        tree = prepare_tree(home / "build", package, archive, "x86_64", progress, configurations()[0])
        _build_into(home / "done", tree, progress)
        for other in home.iterdir():
            if other.is_dir() and other.name not in ("build", "done"):
                shutil.rmtree(other)
        (home / "done").rename(home / _digest())
        shutil.rmtree(home / "build")
    return find_blobs(places)


def configurations() -> tuple[str, str]:
    """Return the configuration of the kernel like AWS's, and of the one with a PVH entry."""
    plain = (Path(__file__).parent / "kernel.config").read_text(encoding="ascii")
    other = plain
    for line, replacement in WITH_PVH.items():
        other = other.replace(f"\n{line}\n", f"\n{replacement}\n")
    return plain, other


def _build_into(directory: Path, tree: KernelTree, progress: Progress) -> None:
    plain, with_pvh = configurations()
    configure_tree(tree, plain)  # an interrupted build may have left the tree at the other one
    shutil.copyfile(build_kernel(tree, progress, "modules"), directory / "kernel")
    shutil.copyfile(tree.directory / NSM_DRIVER, directory / "nsm.ko")
    (directory / "release").write_text(kernel_release(tree))
    configure_tree(tree, with_pvh)
    shutil.copyfile(build_kernel(tree, progress), directory / "kernel-pvh")


def _home(places: Places) -> Path:
    return places.cache / "foreign"


def _digest() -> str:
    """Name what is built after what we ask for; a newer source or compiler alone is no reason to build."""
    return hashlib.sha256(f"{configurations()}".encode()).hexdigest()[:32]


@contextmanager
def _only_builder(home: Path, progress: Progress) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / ".lock").open("w") as lock:
        progress(None, "waiting for another build to end")
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
