"""The distribution's half of a lock file: pins made from an archive, and fetched from it or the cache."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from cloister.packages import Package, PackageError, PackageSource
from cloister.places import Places
from cloister.rootfs.lock import Lock, LockedPackage, LockError

Progress = Callable[[str], None]
"""Called with one short sentence at the start of each step that may take seconds."""


def lock_packages(
    places: Places, names: Sequence[str], *, suites: Sequence[str], architecture: str
) -> list[LockedPackage]:
    """Pin the named packages, and only them, at the versions the archive has now."""
    source = PackageSource(places, suites=suites, architecture=architecture)
    source.update()
    found = {package.name: package for package in source.resolve(names)}
    pins = []
    for name in sorted(names):
        if name not in found:
            raise LockError(f"the package {name} is not in {', '.join(suites)}")
        package = found[name]
        pins.append(
            LockedPackage(
                name=name,
                version=package.version,
                architecture=package.architecture,
                filename=_split(package)[1],
                size=package.size,
                sha256=package.sha256,
            )
        )
    return pins


class Archive(Protocol):
    """What is needed of a PackageSource to fetch pins."""

    offline: bool

    def update(self) -> None:
        """Fetch the archive's indexes."""

    def resolve(self, names: Sequence[str]) -> list[Package]:
        """Return the named packages, and others, as the archive has them now."""

    def fetch(self, package: Package) -> Path:
        """Return the package's file."""

    def path_of(self, package: Package) -> Path:
        """Return where the file is once it is fetched."""


def open_archive(places: Places, lock: Lock, *, offline: bool) -> Archive:
    """Return the archive that a lock's packages come from."""
    return PackageSource(places, suites=lock.suites, architecture=lock.architecture, offline=offline)


def fetch_packages(archive: Archive, pins: Sequence[LockedPackage], *, progress: Progress) -> list[Path]:
    """Return the files of the pinned packages, in order; LockError names one that left its archive."""
    files = {pin: archive.path_of(_package(pin, "")) for pin in pins}
    missing = [pin for pin, path in files.items() if not is_intact(path, pin.sha256)]
    if missing and archive.offline:
        raise LockError(
            f"{missing[0].name} {missing[0].version} is not in the cache: run once without --offline"
        )
    if missing:
        progress("fetching the distribution's packages")
        archive.update()
        found = {package.name: package for package in archive.resolve([pin.name for pin in missing])}
        for pin in missing:
            files[pin] = _fetch(archive, pin, found.get(pin.name))
    return list(files.values())


def is_intact(path: Path, sha256: str) -> bool:
    """Whether a file is there and has this digest."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _fetch(archive: Archive, pin: LockedPackage, current: Package | None) -> Path:
    """Fetch one pin from where the archive keeps the package's current version."""
    if current is None:
        raise _gone(pin)
    try:
        return archive.fetch(_package(pin, _split(current)[0]))
    except PackageError as error:
        if current.sha256 != pin.sha256:
            raise _gone(pin) from error
        raise


def _package(pin: LockedPackage, archive: str) -> Package:
    return Package(
        name=pin.name,
        version=pin.version,
        architecture=pin.architecture,
        uri=archive + pin.filename,
        filename=f"{pin.name}_{pin.version.replace(':', '%3a')}_{pin.architecture}.deb",
        size=pin.size,
        sha256=pin.sha256,
    )


def _split(package: Package) -> tuple[str, str]:
    """Split a package's address into the archive's own and the path inside it (Debian repository format)."""
    archive, pool, path = package.uri.partition("/pool/")
    if not pool:
        raise LockError(f"{package.name} is not in its archive's pool, so its path cannot be pinned")
    return f"{archive}/", f"pool/{path}"


def _gone(pin: LockedPackage) -> LockError:
    return LockError(
        f"{pin.name} {pin.version} has left its archive; 'cloister setup --update-lock' pins today's"
    )
