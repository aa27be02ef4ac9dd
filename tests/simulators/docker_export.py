"""``docker create`` and ``docker export`` on a real file system: what AWS's build-enclave gives linuxkit.

Sources: moby's daemon/initlayer/setup_unix.go and pkg/archive/archive.go. Made with calls of the kernel, so
that it shares no code with the product; compared with Docker Engine: docs/reference/ramdisk-layout.md.
"""

import os
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CREATED: dict[str, str | None] = {
    "dev/pts": None, "dev/shm": None, "proc": None, "sys": None, ".dockerenv": "", "etc/resolv.conf": "",
    "etc/hosts": "", "etc/hostname": "", "dev/console": "", "etc/mtab": "/proc/mounts",
}  # fmt: skip
"""None is a directory, text a link's target, no text an empty file."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file of an image, below directories that came before it."""

    path: str
    type: bytes = tarfile.REGTYPE
    body: bytes = b""
    link: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    major: int = 0
    minor: int = 0

    def member(self) -> tuple[tarfile.TarInfo, bytes]:
        """Return it as a member of a layer."""
        info = tarfile.TarInfo(self.path)
        info.type, info.size, info.linkname, info.mode = self.type, len(self.body), self.link, self.mode
        info.uid, info.gid, info.mtime = self.uid, self.gid, self.mtime
        info.devmajor, info.devminor = self.major, self.minor
        return info, self.body


def lay_out(items: Iterable[Item], root: Path) -> None:
    """Unpack an image as Docker does; only root can give files away and make devices."""
    made = list(items)
    for item in made:
        path = root / item.path
        if item.type == tarfile.DIRTYPE:
            path.mkdir()
        elif item.type == tarfile.SYMTYPE:
            path.symlink_to(item.link)
        elif item.type == tarfile.LNKTYPE:
            os.link(root / item.link, path, follow_symlinks=False)
        elif item.type == tarfile.REGTYPE:
            path.write_bytes(item.body)
        else:
            kinds = {
                tarfile.FIFOTYPE: stat.S_IFIFO,
                tarfile.CHRTYPE: stat.S_IFCHR,
                tarfile.BLKTYPE: stat.S_IFBLK,
            }
            os.mknod(path, kinds[item.type] | 0o600, os.makedev(item.major, item.minor))
        os.chown(path, item.uid, item.gid, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(item.mode)
    for item in made:
        path = root / item.path
        if item.type != tarfile.LNKTYPE or not path.is_symlink():
            os.utime(path, (item.mtime, item.mtime), follow_symlinks=False)


def create(root: Path) -> None:
    """Make what Docker makes in every new container."""
    for name, target in CREATED.items():
        for part in (*reversed(Path(name).parents), Path(name)):
            path = root / part
            if path.is_symlink() or path.is_file() or (path.exists() and not path.is_dir()):
                path.unlink()
        path = root / name
        if path.exists():
            continue
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if target is None:
            path.mkdir(mode=0o755)
        elif target:
            path.symlink_to(target)
        else:
            path.touch()
            path.chmod(0o755)


def export(root: Path, target: IO[bytes]) -> None:
    """Archive a tree: children after their directory, in the order of their names, later links as links."""
    seen = dict[tuple[int, int], str]()

    def add(directory: Path) -> None:
        for path in sorted(directory.iterdir(), key=lambda path: os.fsencode(path.name)):
            status, name = path.lstat(), str(path.relative_to(root))
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
            info.mtime = int(status.st_mtime_ns // 1_000_000_000)
            first = seen.setdefault((status.st_dev, status.st_ino), name)
            if stat.S_ISDIR(status.st_mode):
                info.type = tarfile.DIRTYPE
            elif first != name:
                info.type, info.linkname = tarfile.LNKTYPE, first
            elif stat.S_ISLNK(status.st_mode):
                info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
            elif stat.S_ISREG(status.st_mode):
                info.size = status.st_size
            else:
                info.type = {stat.S_IFIFO: tarfile.FIFOTYPE, stat.S_IFCHR: tarfile.CHRTYPE}.get(
                    stat.S_IFMT(status.st_mode), tarfile.BLKTYPE
                )
                info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
            if info.isreg():
                with path.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)
            if info.isdir():
                add(path)

    with tarfile.open(
        fileobj=target, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape"
    ) as archive:
        add(root)
