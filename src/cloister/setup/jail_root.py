"""The jail's root: a read-only directory with QEMU, its libraries and its firmware, and nothing else.

From the host's own QEMU if that is new enough, else from the distribution's backports, unpacked without root.
Each architecture of enclaves has an emulator and so a root of its own. The directory is named by the digest
of what is in it; a link points to the one in use (vmm's `jail_link`), and ``<digest>.json`` beside it lists
every file with its SHA-256.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloister.errors import CloisterError
from cloister.packages import PackageSource, make_merged_usr, read_os_release, unpack_package
from cloister.places import Places
from cloister.setup.shared_libraries import library_closure
from cloister.vmm import emulator_path, jail_link

OLDEST_QEMU = {"x86_64": (10, 2), "aarch64": (11, 0)}
"""The first QEMU in which vhost-user-test-device may be created by the user, and the first whose virt machine
takes virtio-mmio-transports."""
EMULATOR_PACKAGE = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}
FIRMWARE = {
    "x86_64": ("qboot.rom", "bios-microvm.bin", "linuxboot_dma.bin", "pvh.bin", "kvmvapic.bin"),
    "aarch64": (),
}
"""What the microvm may load; the virt machine enters a kernel without any."""
FIRMWARE_DIRECTORIES = ("share/qemu", "share/seabios", "share/qemu-firmware")
LIBRARY_DIRECTORIES = (
    "/usr/lib/{machine}-linux-gnu", "/lib/{machine}-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/lib",
    "/usr/local/lib/{machine}-linux-gnu", "/usr/local/lib",
)  # fmt: skip
UNWINDER = "libgcc_s.so.1"
"""The C library loads it by name when a thread ends early; no ELF header mentions it."""
MOUNT_POINTS = ("dev", "proc", "tmp", "run")
NEWER_SUITE = {"bookworm": "trixie", "trixie": "trixie"}
"""Which release's backports hold a new enough QEMU, for each release we know."""
DEBIAN_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}

Progress = Callable[[float | None, str], None]
"""Called with the share done (0 to 1, or None) and what is being done."""


class JailRootError(CloisterError):
    """The jail root cannot be made or is not whole."""


@dataclass(frozen=True, slots=True)
class JailRoot:
    """A jail root on disk."""

    directory: Path
    digest: str
    origin: str
    files: dict[str, dict[str, str | int]]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(int(entry["size"]) for entry in self.files.values() if "size" in entry)


def open_jail_root(places: Places, architecture: str, *, check: bool = False) -> JailRoot | None:
    """Return the jail root in use if it is whole, else None; ``check`` hashes every file."""
    try:
        directory = jail_link(places, architecture).resolve(strict=True)
        text = directory.with_suffix(".json").read_text()
        manifest = json.loads(text)
        root = JailRoot(directory, directory.name, manifest["origin"], manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if hashlib.sha256(text.encode()).hexdigest() != root.digest:
        return None
    if check:
        return root if _list_files(directory) == root.files else None
    whole = all(_matches(directory / path, entry) for path, entry in root.files.items())
    return root if whole else None


def ensure_jail_root(places: Places, architecture: str, *, offline: bool, progress: Progress) -> JailRoot:
    """Return the jail root in use, assembling it first if there is none."""
    existing = open_jail_root(places, architecture)
    if existing is not None:
        return existing
    places.jails.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _only_maker(places.jails), _scratch_in(places.jails) as scratch:
        existing = open_jail_root(places, architecture)  # somebody else may have made it while we waited
        if existing is not None:
            return existing
        host = _host_emulator(architecture)
        if host is not None:
            origin, source, emulator = f"host {_version_text(host)}", Path("/"), host
        else:
            source = scratch / "unpacked"
            origin = _unpack_newer(places, architecture, source, offline=offline, progress=progress)
            emulator = source / emulator_path(architecture).lstrip("/")
        progress(None, "keeping only what QEMU needs")
        tree = scratch / "root"
        _assemble(source, emulator, tree, architecture)
        return _install(places, tree, origin, architecture)


@contextmanager
def _only_maker(jails: Path) -> Iterator[None]:
    with (jails / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for abandoned in jails.glob(".making-*"):
            remove_tree(abandoned)
        yield


@contextmanager
def _scratch_in(jails: Path) -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=jails))
    try:
        yield scratch
    finally:
        remove_tree(scratch)


def _host_emulator(architecture: str) -> Path | None:
    found = shutil.which(Path(emulator_path(architecture)).name)
    version = parse_version(_version_text(Path(found))) if found else None
    return Path(found) if found and version and version >= OLDEST_QEMU[architecture] else None


def parse_version(text: str) -> tuple[int, int] | None:
    """Read major and minor out of what ``qemu --version`` prints."""
    version = re.search(r"version (\d+)\.(\d+)", text)
    return (int(version[1]), int(version[2])) if version else None


def _version_text(emulator: Path) -> str:
    try:
        result = subprocess.run(
            [str(emulator), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.partition("\n")[0]


def _unpack_newer(places: Places, wanted: str, target: Path, *, offline: bool, progress: Progress) -> str:
    own = read_os_release().get("VERSION_CODENAME", "unknown")
    suite = NEWER_SUITE.get(own)
    if suite is None:
        major, minor = OLDEST_QEMU[wanted]
        raise JailRootError(
            f"no QEMU {major}.{minor} or newer here and no backports known for the release {own!r}: "
            f"install one as {Path(emulator_path(wanted)).name}"
        )
    architecture = DEBIAN_ARCHITECTURE.get(platform.machine(), platform.machine())
    backports = f"{suite}-backports"
    suites = [suite, f"{suite}-updates", f"{suite}-security", backports]
    source = PackageSource(places, suites=suites, architecture=architecture, offline=offline)
    progress(None, f"package indexes of {backports}")
    source.update()
    packages = source.resolve([EMULATOR_PACKAGE[wanted]], target_suite=backports)
    files = source.fetch_all(
        packages, progress=lambda done, total, name: progress(0.7 * done / total, f"fetching {name}")
    )
    for number, file in enumerate(files):
        progress(0.7 + 0.25 * number / len(files), f"unpacking {packages[number].name}")
        unpack_package(file, target)
    emulator = next(package for package in packages if package.name == EMULATOR_PACKAGE[wanted])
    return f"{backports} {emulator.name} {emulator.version}"


def _assemble(source: Path, emulator: Path, tree: Path, architecture: str) -> None:
    """Copy the emulator, what it loads and its firmware into an empty tree, all of it read-only."""
    machine = platform.machine()
    directories = [directory.format(machine=machine) for directory in LIBRARY_DIRECTORIES]
    make_merged_usr(tree)
    for name in MOUNT_POINTS:
        (tree / name).mkdir()
    name = f"qemu/accel-tcg-{architecture}.so"
    modules = [module for d in directories if (module := source / d.lstrip("/") / name).exists()]
    wanted = {f"/{path.relative_to(source)}": path for path in modules}
    wanted[emulator_path(architecture)] = emulator
    wanted |= dict(library_closure([emulator, *modules], root=source, directories=directories))
    unwinder = next((path for d in directories if (path := source / d.lstrip("/") / UNWINDER).exists()), None)
    if unwinder is not None:
        wanted[f"/{unwinder.relative_to(source)}"] = unwinder.resolve()
    prefix = emulator.parent.parent
    for name in FIRMWARE[architecture]:
        found = next((prefix / d / name for d in FIRMWARE_DIRECTORIES if (prefix / d / name).exists()), None)
        if found is not None:
            wanted[f"/usr/share/qemu/{name}"] = found
    if FIRMWARE[architecture] and "/usr/share/qemu/qboot.rom" not in wanted:
        raise JailRootError(
            f"{emulator} comes without the microvm firmware qboot.rom: install qemu-system-data"
        )
    for inside, file in wanted.items():
        place = tree / inside.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copyfile(file, place)
            place.chmod(0o555 if os.access(file, os.X_OK) else 0o444)


def _install(places: Places, tree: Path, origin: str, architecture: str) -> JailRoot:
    for directory, _, _ in os.walk(tree, topdown=False):
        Path(directory).chmod(0o555)
    files = _list_files(tree)
    text = json.dumps({"files": files, "origin": origin}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    final = places.jails / digest
    manifest = places.jails / f"{digest}.json"
    manifest.write_text(text)
    if final.exists():  # damaged, or current was lost
        remove_tree(final)
    tree.chmod(0o755)  # a directory that is not writable cannot be renamed by its owner
    tree.rename(final)
    final.chmod(0o555)
    link = places.jails / f".current-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(digest)
    link.rename(jail_link(places, architecture))
    return JailRoot(final, digest, origin, files)


def remove_tree(tree: Path) -> None:
    """Remove a read-only tree."""
    for directory, _, _ in os.walk(tree):
        Path(directory).chmod(0o755)
    shutil.rmtree(tree)


def _list_files(tree: Path) -> dict[str, dict[str, str | int]]:
    """List files and links with what they hold; mount points and directories are not content."""
    files: dict[str, dict[str, str | int]] = {}
    for directory, subdirectories, names in os.walk(tree):
        for name in sorted([*names, *(d for d in subdirectories if Path(directory, d).is_symlink())]):
            path = Path(directory, name)
            inside = str(path.relative_to(tree))
            if path.is_symlink():
                files[inside] = {"link": str(path.readlink())}
            else:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                files[inside] = {
                    "sha256": digest,
                    "size": path.stat().st_size,
                    "mode": f"{path.stat().st_mode & 0o7777:o}",
                }
    return files


def _matches(path: Path, entry: dict[str, str | int]) -> bool:
    if "link" in entry:
        return path.is_symlink() and str(path.readlink()) == entry["link"]
    return path.is_file() and path.stat().st_size == entry["size"]
