"""The guest kernel: the distribution's own source and a small configuration decide every byte of it.

The tree is unpacked and built in a directory named after what goes in (source, configuration, compiler), in
place, so that no path gets into the result; after an interruption make continues where it was. Kbuild's own
rules for reproducible builds: Documentation/kbuild/reproducible-builds.rst.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cloister.kit.manifest import KitError
from cloister.kit.toolchain import Progress, compiler_version, run_tool, tool_prefix
from cloister.packages import Package

SOURCE_PACKAGE = "linux-source-6.12"
IMAGE = {"x86_64": "arch/x86/boot/bzImage", "aarch64": "arch/arm64/boot/Image"}
"""What AWS's images of each architecture hold (nitro-tools 3): packed on one, flat on the other."""
MAKE_ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "arm64"}
EXPECTED_STEPS = {"x86_64": 1430, "aarch64": 1340}
"""Lines that make prints for the whole kernel; only the progress bar depends on them."""
NOT_USED = ("RUSTC", "BINDGEN", "PAHOLE")
"""Tools that Kconfig would look for, and whose mere presence would change the configuration it writes."""
NOT_UNPACKED = (
    "*/Documentation/*.rst", "*/Documentation/*.yaml", "*/Documentation/*.txt", "*/samples/*.[ch]",
    "*/rust/*.rs", "*/sound/*.[ch]", "*/tools/testing/*", "*/tools/perf/*", "*/arch/*.dts", "*/arch/*.dtsi",
    "*/drivers/gpu/drm/*.[ch]", "*/drivers/media/*.[ch]", "*/drivers/staging/*.[ch]",
    "*/drivers/net/ethernet/*.[ch]", "*/drivers/net/wireless/*.[ch]",
    "*/drivers/infiniband/*.[ch]", "*/drivers/scsi/*.[ch]",
)  # fmt: skip
"""Half of the tree, by size, that no configuration of ours compiles; every Kconfig and Makefile stays."""
ADDED = {"x86_64": ("tcg_timers.c", "arch/x86/kernel")}
"""A source file of ours that is compiled in, and the directory it goes to (docs/decisions/0105)."""


@dataclass(frozen=True, slots=True)
class KernelTree:
    """An unpacked source tree together with what names it."""

    directory: Path
    source: Package
    architecture: str
    log: Path

    def make(self, *targets: str) -> list[str]:
        """Return the make command for some targets."""
        words = ["make", f"-j{os.cpu_count() or 1}", f"ARCH={MAKE_ARCHITECTURE[self.architecture]}"]
        prefix = tool_prefix(self.architecture)
        cross = [f"CROSS_COMPILE={prefix}"] if prefix else []
        return [*words, *cross, *(f"{tool}=not-used" for tool in NOT_USED), *targets]


def kernel_configuration(architecture: str) -> str:
    """Return our configuration fragment for an architecture: what all have, then its own."""
    guest = files("cloister").joinpath("guest")
    own = guest.joinpath(f"kernel-{architecture}.config")
    if not own.is_file():
        raise KitError(f"there is no kernel configuration for {architecture}: expected aarch64 or x86_64")
    return guest.joinpath("kernel.config").read_text(encoding="ascii") + own.read_text(encoding="ascii")


def prepare_tree(  # noqa: PLR0917 -- each is what the one before needs
    work: Path,
    source: Package,
    archive: Path,
    architecture: str,
    progress: Progress,
    configuration: str = "",
) -> KernelTree:
    """Unpack and configure the source, unless that was done before; by default the guest kit's kernel."""
    added = "" if configuration else _added_source(architecture)
    configuration = configuration or kernel_configuration(architecture)
    name = hashlib.sha256(
        f"{source.sha256}\n{architecture}\n{configuration}{added}\n{compiler_version(architecture)}".encode()
    ).hexdigest()[:16]
    home = work / f"{architecture}-{name}"
    tree = KernelTree(home / "linux", source, architecture, home / "build.log")
    if not (home / "unpacked").is_file():
        shutil.rmtree(home, ignore_errors=True)
        tree.directory.mkdir(parents=True)
        progress(0.03, f"unpacking {source.filename}")
        _unpack_source(archive, tree.directory)
        if added:
            _add_source(tree.directory, architecture, added)
        (home / "unpacked").touch()
    if not (home / "configured").is_file():
        progress(0.07, "configuring the kernel")
        configure_tree(tree, configuration)
        (home / "configured").touch()
    return tree


def _added_source(architecture: str) -> str:
    if architecture not in ADDED:
        return ""
    return files("cloister").joinpath("guest", ADDED[architecture][0]).read_text(encoding="ascii")


def _add_source(tree: Path, architecture: str, source: str) -> None:
    name, directory = ADDED[architecture]
    (tree / directory / name).write_text(source, encoding="ascii")
    with (tree / directory / "Makefile").open("a", encoding="ascii") as makefile:
        makefile.write(f"obj-y += {name.removesuffix('.c')}.o\n")


def configure_tree(tree: KernelTree, configuration: str) -> None:
    """Write the tree's configuration from a fragment; KitError when Kconfig does not take all of it."""
    fragment = tree.directory.parent / "fragment.config"
    fragment.write_text(configuration)
    run_tool([*tree.make("allnoconfig"), f"KCONFIG_ALLCONFIG={fragment}"], tree.directory, log=tree.log)
    check_configuration(configuration, (tree.directory / ".config").read_text())


def _unpack_source(archive: Path, target: Path) -> None:
    """Stream package → inner tarball → tree; nothing but the tree touches the disk."""
    select = ["tar", "--extract", "--to-stdout", "--wildcards", "*/linux-source-*.tar.xz"]
    unpack = [
        "tar",
        "--extract",
        "--strip-components=1",
        "--no-same-owner",
        "--directory",
        str(target),
        "--wildcards",
    ]
    unpack += [f"--exclude={pattern}" for pattern in NOT_UNPACKED]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=pipe) as package,
        subprocess.Popen(select, stdin=package.stdout, stdout=pipe) as inner,
        subprocess.Popen(["xz", "--decompress", "--threads=0"], stdin=inner.stdout, stdout=pipe) as plain,
        subprocess.Popen(unpack, stdin=plain.stdout, stderr=pipe, text=True) as writer,
    ):
        for stage in (package, inner, plain):
            assert stage.stdout is not None
            stage.stdout.close()
        errors = writer.communicate()[1]
    if any(stage.returncode for stage in (package, inner, plain, writer)):
        raise KitError(f"cannot unpack {archive.name}: {errors.strip()[-300:] or 'it is damaged'}")


def check_configuration(wanted: str, got: str) -> None:
    """Kconfig drops silently what it cannot have; we do not accept that."""
    lines = set(got.splitlines())
    missing = [
        line
        for line in wanted.splitlines()
        if (line.startswith("CONFIG_") and line not in lines)
        or (line.startswith("# CONFIG_") and line.partition(" is")[0][2:] + "=y" in lines)
    ]
    if missing:
        raise KitError(
            f"the kernel's configuration does not take {', '.join(missing)[:400]}: is it a 6.12 source?"
        )


def build_kernel(tree: KernelTree, progress: Progress, *more: str) -> Path:
    """Compile, or go on compiling, and return the kernel image; ``more`` are further targets of make."""
    counter = tree.directory.parent / "steps"
    done = int(counter.read_text()) if counter.is_file() else 0

    def count(line: str) -> None:
        nonlocal done
        step = re.match(r"\s+[A-Z][A-Z0-9_]+\s+(?:\[M\] )?(\S+)", line)
        if step is None:
            return
        done += 1
        if done % 20 == 0:
            counter.write_text(str(done))
        progress(0.1 + 0.9 * min(done / EXPECTED_STEPS[tree.architecture], 0.999), step[1])

    try:
        targets = (Path(IMAGE[tree.architecture]).name, *more)
        run_tool(tree.make(*targets), tree.directory, log=tree.log, on_line=count)
    finally:
        counter.write_text(str(done))
    return tree.directory / IMAGE[tree.architecture]


def forget_other_trees(tree: KernelTree) -> None:
    """Remove the trees of former sources, configurations and compilers; this one stays for next time."""
    home = tree.directory.parent
    for other in home.parent.glob(f"{tree.architecture}-*"):
        if other != home:
            shutil.rmtree(other, ignore_errors=True)


def kernel_release(tree: KernelTree) -> str:
    """Return the version the kernel will report."""
    return (tree.directory / "include/config/kernel.release").read_text().strip()
