"""The kits of this host: ``<cache>/kits/<digest>/``, and ``current-<architecture>`` for the one in use."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cloister.kit.manifest import (
    ARCHITECTURES,
    MANIFEST,
    MAX_MANIFEST,
    Kit,
    KitError,
    KitManifest,
    KitMissingError,
    file_digest,
)
from cloister.kit.origin import Origin, note_origin, origin_of
from cloister.places import Places, own_architecture

ABANDONED_SECONDS = 86400.0
"""A scratch directory this old belongs to nobody any more."""


def open_kit(directory: Path) -> Kit:
    """Read the kit in a directory without hashing its files; KitError if its manifest is not its own."""
    path = directory / MANIFEST
    try:
        with path.open("rb") as file:
            manifest = KitManifest.from_bytes(file.read(MAX_MANIFEST))
    except OSError as error:
        raise KitError(f"{directory} is not a kit: {error.strerror}") from error
    if directory.name != manifest.digest:
        raise KitError(
            f"the manifest in {directory} has digest {manifest.digest}: expected its directory's name"
        )
    return Kit(directory, manifest)


def find_kit(places: Places, architecture: str = "") -> Kit:
    """Return the kit in use, by default for this host's architecture; KitMissingError says how to get one."""
    architecture = architecture or own_architecture()
    if architecture not in ARCHITECTURES:
        raise KitMissingError(f"no kit for {architecture!r}: expected {' or '.join(ARCHITECTURES)}")
    link = places.kits / f"current-{architecture}"
    try:
        directory = link.resolve(strict=True)
    except OSError as error:
        raise KitMissingError(
            f"no guest kit for {architecture}: run '{_setup(architecture)}', or 'cloister kit import FILE'"
        ) from error
    return open_kit(directory)


def list_kits(places: Places) -> list[Kit]:
    """Return every kit of this host, by digest; what is not a kit is left out."""
    kits = []
    for directory in sorted(places.kits.glob("[0-9a-f]*")):
        try:
            kits.append(open_kit(directory))
        except KitError:
            continue
    return kits


def choose_kit(places: Places, prefix: str) -> Kit:
    """Return the one kit whose digest starts with ``prefix``; KitMissingError if there is none or several."""
    found = [kit for kit in list_kits(places) if kit.digest.startswith(prefix)]
    if len(found) != 1:
        raise KitMissingError(
            f"{len(found) or 'no'} kits have a digest that starts with {prefix!r}: expected exactly one"
        )
    return found[0]


def _setup(architecture: str) -> str:
    return "cloister setup" + ("" if architecture == own_architecture() else f" --arch {architecture}")


def use_kit(places: Places, kit: Kit, *, built_from: str | None = None) -> None:
    """Make a kit the one in use for its architecture, after checking all of its files.

    ``built_from`` is the digest of the guest sources if it was built here; without, set-up leaves it alone,
    unless it is the very kit that set-up has built: to choose that one is no wish to stay behind.
    """
    kit.verify()
    if built_from is not None or origin_of(places, kit) is not Origin.OURS:
        note_origin(places, kit, built_from)
    link = places.kits / f".current-{kit.architecture}-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(kit.digest)
    link.rename(places.kits / f"current-{kit.architecture}")


@contextmanager
def new_kit_directory(places: Places) -> Iterator[Path]:
    """Give a scratch directory on the kits' file system; it is gone afterwards."""
    places.kits.mkdir(parents=True, exist_ok=True, mode=0o700)
    for other in places.kits.glob(".making-*"):
        with suppress(FileNotFoundError):  # its owner has just finished with it
            if time.time() - other.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=places.kits))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def install_kit(places: Places, scratch: Path, manifest: KitManifest) -> Kit:
    """Move a finished kit to its place, read-only; one that is there already is replaced if damaged."""
    (scratch / MANIFEST).write_bytes(manifest.to_bytes())
    for name in manifest.files:
        (scratch / name).chmod(0o555 if name == "init" else 0o444)
    (scratch / MANIFEST).chmod(0o444)
    Kit(scratch, manifest).verify()
    final = places.kits / manifest.digest
    kit = Kit(final, manifest)
    scratch.chmod(0o755)
    try:
        scratch.rename(final)
    except OSError:  # it is there already, perhaps since a moment ago: another build may have been faster
        try:
            open_kit(final).verify()
        except KitError:
            shutil.rmtree(final, ignore_errors=True)
            scratch.rename(final)
    return kit


def digests_of(directory: Path, names: tuple[str, ...]) -> Mapping[str, str]:
    """Hash the named files of a directory."""
    return {name: file_digest(directory / name) for name in names}
