"""Python wheels: pinned by digest, fetched by pip from whatever index it is configured for."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cloister.rootfs.archive import is_intact
from cloister.rootfs.lock import LockedWheel, LockError

MAX_UNPACKED = 256 << 20
PIP_SECONDS = 600
PYTHON_VERSION = "3.11"
"""Debian 12's, which is what the example's packages hold."""
PLATFORMS = {
    "amd64": ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64"),
    "arm64": ("manylinux_2_34_aarch64", "manylinux_2_28_aarch64", "manylinux2014_aarch64"),
}


def fetch_wheels(
    wheels: Sequence[LockedWheel], cache: Path, *, architecture: str, offline: bool
) -> dict[LockedWheel, Path]:
    """Return each wheel's file, from the cache or through pip; LockError when one cannot be had."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [wheel for wheel in wheels if not is_intact(cache / wheel.filename, wheel.sha256)]
    if missing and offline:
        raise LockError(
            f"{missing[0].filename} is not in the cache {cache} and --offline forbids fetching it"
        )
    if missing:
        pins = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in missing]
        _download(pins, cache, architecture=architecture, what=f"{missing[0].name} {missing[0].version}")
    for wheel in missing:
        if not is_intact(cache / wheel.filename, wheel.sha256):
            raise LockError(
                f"pip fetched another file than the pinned {wheel.filename}; --update-lock moves the lock"
            )
    return {wheel: cache / wheel.filename for wheel in wheels}


def lock_wheels(requirements: Sequence[str], cache: Path, *, architecture: str) -> list[LockedWheel]:
    """Ask pip for the wheels that satisfy ``requirements`` now and return their pins."""
    if not requirements:
        return []
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        _download(requirements, Path(scratch), architecture=architecture, what=", ".join(requirements))
        pins = []
        for path in sorted(Path(scratch).iterdir()):
            name, version, *_ = path.name.split("-")
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            pins.append(LockedWheel(name.replace("_", "-").lower(), version, path.name, digest))
            path.replace(cache / path.name)
    return pins


def unpack_wheel(wheel: Path, directory: Path) -> None:
    """Unpack a wheel's modules under ``directory`` (PEP 427); its metadata stays out."""
    with zipfile.ZipFile(wheel) as archive:
        members = [entry for entry in archive.infolist() if not entry.is_dir()]
        if sum(entry.file_size for entry in members) > MAX_UNPACKED:
            raise LockError(f"{wheel.name} unpacks to more than {MAX_UNPACKED} bytes")
        for entry in members:
            path = PurePosixPath(entry.filename)
            if path.is_absolute() or ".." in path.parts:
                raise LockError(f"{wheel.name} holds the path {entry.filename!r}, which leaves its directory")
            if re.search(r"\.(dist-info|data)$", path.parts[0]):
                continue
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, target.open("xb") as out:
                shutil.copyfileobj(source, out)


def _download(requirements: Sequence[str], directory: Path, *, architecture: str, what: str) -> None:
    options = [f"--platform={platform}" for platform in PLATFORMS[architecture]]
    options += [
        "--abi=cp311",
        "--abi=abi3",
        "--abi=none",
        "--implementation=cp",
        f"--python-version={PYTHON_VERSION}",
    ]
    if any("--hash=" in requirement for requirement in requirements):
        options.append("--require-hashes")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listing:
        listing.write("\n".join(requirements) + "\n")
        listing.flush()
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            *options,
        ]
        command += ["--dest", str(directory), "--requirement", listing.name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise LockError(f"pip did not fetch {what} within {PIP_SECONDS} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise LockError(
            f"the wheel {what} cannot be fetched as it is pinned (pip: {said}); --update-lock moves the lock"
        )
