"""The distribution's half of a lock file: pins made from an archive, and fetched from it or the cache."""

from collections.abc import Callable, Sequence
from pathlib import Path

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


def fetch_packages(places: Places, lock: Lock, *, offline: bool, progress: Progress) -> list[Path]:
    """Return the files of a lock's packages, in its order; LockError names one that left its archive."""
    source = PackageSource(places, suites=lock.suites, architecture=lock.architecture, offline=offline)
    try:
        cached = PackageSource(places, suites=lock.suites, architecture=lock.architecture, offline=True)
        return cached.fetch_all([_package(pin, "") for pin in lock.packages])
    except PackageError as error:
        if offline:
            raise LockError(f"{error}") from error
    progress("fetching the distribution's packages")
    source.update()
    found = {package.name: package for package in source.resolve([pin.name for pin in lock.packages])}
    files = []
    for pin in lock.packages:
        if pin.name not in found:
            raise _gone(pin)
        archive, _ = _split(found[pin.name])
        try:
            files.append(source.fetch(_package(pin, archive)))
        except PackageError as error:
            raise _gone(pin) if found[pin.name].sha256 != pin.sha256 else error from error
    return files


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
