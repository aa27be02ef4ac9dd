"""Build a kit from the distribution's kernel source: fetch, verify, configure, compile, measure, install."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloister.kit.cmdline import CMDLINE
from cloister.kit.guest_init import build_init
from cloister.kit.kernel import (
    SOURCE_PACKAGE,
    KernelTree,
    build_kernel,
    forget_other_trees,
    kernel_release,
    prepare_tree,
)
from cloister.kit.manifest import FILES, Kit, KitError, KitManifest
from cloister.kit.origin import guest_sources
from cloister.kit.store import digests_of, install_kit, new_kit_directory, use_kit
from cloister.kit.toolchain import Progress, compiler_version, missing_tools, run_tool
from cloister.packages import Package, PackageSource, read_os_release
from cloister.places import Places

SUITES = {"bookworm": "trixie", "trixie": "trixie"}
"""Which release holds the kernel source, for each release of the host that we know."""


def find_source(places: Places, *, offline: bool) -> tuple[PackageSource, Package]:
    """Return the kernel source package and where to fetch it; PackageError or KitError if there is none."""
    own = read_os_release().get("VERSION_CODENAME", "unknown")
    suite = SUITES.get(own)
    if suite is None:
        raise KitError(
            f"no kernel source is known for the release {own!r}: import a kit with 'cloister kit import FILE'"
        )
    source = PackageSource(places, suites=[suite, f"{suite}-updates", f"{suite}-security"], offline=offline)
    source.update()
    packages = source.resolve([SOURCE_PACKAGE])
    return source, next(package for package in packages if package.name == SOURCE_PACKAGE)


def build_kit(
    places: Places,
    *,
    progress: Progress,
    architecture: str,
    offline: bool = False,
    work: Path | None = None,
) -> Kit:
    """Build the kit for an architecture, install it and make it the one in use.

    What an interrupted build left is used. Raises KitError or PackageError.
    """
    missing = missing_tools(architecture)
    if missing:
        raise KitError(
            f"building the guest kit needs {', '.join(missing)}: run 'cloister setup --arch {architecture}', "
            "or install them"
        )
    progress(0.0, "finding the kernel source")
    source, package = find_source(places, offline=offline)
    archive = source.fetch(
        package, progress=lambda done, total, name: progress(0.03 * done / total, f"fetching {name}")
    )
    work = work or places.cache / "build"
    sources = guest_sources(architecture)
    with _only_builder(work, progress):
        tree = prepare_tree(work, package, archive, architecture, progress)
        kit = _build_from(tree, places, progress)
        forget_other_trees(tree)
    use_kit(places, kit, built_from=sources)
    return kit


def _build_from(tree: KernelTree, places: Places, progress: Progress) -> Kit:
    """Compile both programs and install them with all that names them."""
    with new_kit_directory(places) as scratch:
        progress(0.08, "compiling the init")
        run_tool(tree.make("headers"), tree.directory, log=tree.log)
        build_init(
            tree.directory / "tools/include/nolibc",
            tree.directory / "usr/include",
            scratch / "init",
            tree.architecture,
        )
        shutil.copyfile(build_kernel(tree, progress), scratch / "kernel")
        shutil.copyfile(tree.directory / ".config", scratch / "kernel.config")
        (scratch / "cmdline").write_text(CMDLINE[tree.architecture], encoding="ascii")
        manifest = KitManifest(
            architecture=tree.architecture,
            kernel_version=kernel_release(tree),
            source_package=tree.source.name,
            source_version=tree.source.version,
            source_sha256=tree.source.sha256,
            compiler=compiler_version(tree.architecture),
            files=digests_of(scratch, FILES),
        )
        return install_kit(places, scratch, manifest)


@contextmanager
def _only_builder(work: Path, progress: Progress) -> Iterator[None]:
    """Two builds in one tree would spoil each other: the second waits, and then finds the work done."""
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(None, "waiting for another build to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
