"""The test host's kernel: the distribution's own, with the modules it starts from, fetched once and kept.

``<cache>/kvm-host/<digest of the recipe>/`` holds ``kernel`` and ``initramfs``. Modules are unpacked and put
in loading order here, because the initramfs has no module tools: ``depends=`` in ``.modinfo`` is what
depmod(8) would read.
"""

import hashlib
import lzma
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cloister.build.content import Literal
from cloister.build.cpio import CpioArchive, CpioEntry
from cloister.build.tree import Kind
from cloister.packages import PackageSource
from cloister.places import Places

SUITES = ("trixie", "trixie-updates", "trixie-security")
KERNEL = re.compile(r"linux-image-[0-9][^ ]*-amd64")
"""What linux-image-amd64 stands for; the cloud kernel has no 9p, which brings the host's files."""
MODULES = (
    "9pnet_virtio", "9p", "overlay", "kvm-amd", "vhost_vsock", "vsock_loopback",
)  # fmt: skip
FIRST_PROGRAM = Path(__file__).parent / "guest" / "first.sh"


@dataclass(frozen=True, slots=True)
class HostKernel:
    """What the test host boots from."""

    kernel: Path
    initramfs: Path


def fetch_kernel(places: Places) -> HostKernel:
    """Return the kernel and its initramfs, made first if need be; PackageError when they cannot be had."""
    recipe = "\0".join((*SUITES, *MODULES, FIRST_PROGRAM.read_text(), Path(__file__).read_text()))
    home = places.cache / "kvm-host" / hashlib.sha256(recipe.encode()).hexdigest()[:32]
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".making-") as scratch:
            draft = Path(scratch, "draft")
            draft.mkdir()
            _make(draft, *_fetch_packages(places))
            try:
                draft.rename(home)
            except OSError:
                if not home.is_dir():  # else somebody else was faster
                    raise
        for other in home.parent.glob("[0-9a-f]*"):
            if other != home:
                shutil.rmtree(other, ignore_errors=True)
    return HostKernel(home / "kernel", home / "initramfs")


def _fetch_packages(places: Places) -> tuple[Path, Path]:
    """Return the packages of the kernel and of busybox; what else they depend on is for an installation."""
    source = PackageSource(places, suites=SUITES)
    source.update()
    found = source.resolve(["linux-image-amd64", "busybox-static"])
    kernel = next(package for package in found if KERNEL.fullmatch(package.name))
    busybox = next(package for package in found if package.name == "busybox-static")
    kernel_file, busybox_file = source.fetch_all([kernel, busybox])
    return kernel_file, busybox_file


def _make(directory: Path, image: Path, busybox: Path) -> None:
    modules: dict[str, bytes] = {}
    for name, content in _files(image):
        if name.startswith("./boot/vmlinuz-"):
            (directory / "kernel").write_bytes(content)
        elif name.endswith(".ko.xz"):
            modules[Path(name).name.removesuffix(".ko.xz").replace("-", "_")] = content
    program = next(content for name, content in _files(busybox) if name.endswith("bin/busybox"))
    order = list(_loading_order(modules, MODULES))
    files = {"init": FIRST_PROGRAM.read_bytes(), "bin/busybox": program}
    files["modules/order"] = "".join(f"{name}\n" for name, _ in order).encode()
    files |= {f"modules/{name}.ko": content for name, content in order}
    (directory / "initramfs").write_bytes(_cpio(files))


def _files(package: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the regular files of a package that the test host may want."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        with tarfile.open(fileobj=reader.stdout, mode="r|") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None:
                    yield member.name, file.read()
        reader.stdout.read()
    assert reader.returncode == 0, f"{package.name} is not a whole package"


def _loading_order(modules: Mapping[str, bytes], wanted: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield modules, unpacked, each after those it depends on."""
    seen: set[str] = set()

    def load(name: str) -> Iterator[tuple[str, bytes]]:
        name = name.replace("-", "_")
        if name in seen:
            return
        seen.add(name)
        content = lzma.decompress(modules[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for needed in depends[1].decode().split(",") if depends else ():
            if needed:
                yield from load(needed)
        yield name, content

    for name in wanted:
        yield from load(name)


def _cpio(files: Mapping[str, bytes]) -> bytes:
    """Archive files, all of them programs as far as their mode tells, with the directories they need."""
    directories = sorted({str(parent) for name in files for parent in Path(name).parents} - {"."})
    entries = [CpioEntry(name.encode(), Kind.DIRECTORY, 0o755) for name in directories]
    entries += [
        CpioEntry(name.encode(), Kind.FILE, 0o755, Literal(content)) for name, content in files.items()
    ]
    return b"".join(CpioArchive(entries).chunks())
