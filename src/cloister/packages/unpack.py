"""Unpack a Debian package into a directory, without root and without running its scripts."""

import subprocess
from pathlib import Path

from cloister.packages.package import PackageError

MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
"""Debian's merged-/usr layout, which the package base-files would make on a real installation."""
UNPACK_SECONDS = 600


def make_merged_usr(root: Path) -> None:
    """Make the links of the merged-/usr layout, so that packages of both layouts land in one place."""
    for name, target in MERGED.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(target)


def unpack_package(deb: Path, root: Path) -> None:
    """Unpack a package's files below ``root``; PackageError if the file is not a sound package."""
    make_merged_usr(root)
    command = ["tar", "--extract", "--directory", str(root), "--keep-directory-symlink", "--no-same-owner"]
    command += ["--no-same-permissions", "--delay-directory-restore"]
    try:
        with (
            subprocess.Popen(
                ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as reader,
            subprocess.Popen(command, stdin=reader.stdout, stderr=subprocess.PIPE, text=True) as writer,
        ):
            assert reader.stdout is not None
            reader.stdout.close()  # the reader sees a broken pipe when the writer dies
            try:
                errors = writer.communicate(timeout=UNPACK_SECONDS)[1]
            except BaseException:
                reader.kill()  # leaving the with statement waits for both, without a limit
                writer.kill()
                raise
    except FileNotFoundError as error:
        raise PackageError(f"cannot unpack {deb.name}: {error.filename} is missing") from error
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"unpacking {deb.name} took longer than {UNPACK_SECONDS} s") from error
    if reader.returncode or writer.returncode:
        raise PackageError(
            f"cannot unpack {deb.name}: {errors.strip()[-300:] or 'it is not a Debian package'}"
        )
