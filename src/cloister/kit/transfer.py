"""A kit as one file: a tar archive that is the same bytes wherever it is written, and is believed nothing."""

import io
import secrets
import tarfile
from pathlib import Path

from cloister.kit.manifest import FILES, MANIFEST, MAX_MANIFEST, Kit, KitError, KitManifest
from cloister.kit.store import install_kit, new_kit_directory
from cloister.places import Places

MAX_FILE = 256 << 20
"""No kernel of ours is larger; in bytes."""
MEMBERS = (MANIFEST, *FILES)


def export_kit(kit: Kit, output: Path) -> None:
    """Write a kit to one file, deterministically; KitError if it is damaged or the file cannot be written."""
    kit.verify()
    if output.exists() and not output.is_file():  # it would be replaced: /dev/null, for everybody on the host
        raise KitError(f"cannot write {output}: it is not a file")
    partial = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        with tarfile.open(partial, "x", format=tarfile.USTAR_FORMAT) as archive:
            for name in MEMBERS:
                content = (kit.directory / name).read_bytes()
                member = tarfile.TarInfo(name)
                member.size = len(content)
                member.mode = 0o755 if name == "init" else 0o644
                archive.addfile(member, io.BytesIO(content))
        partial.replace(output)
    except OSError as error:
        raise KitError(f"cannot write {output}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def import_kit(places: Places, file: Path, *, digest: str | None = None) -> Kit:
    """Read a kit from one file, check every digest and install it; KitError if anything is foreign or wrong.

    ``digest``, when given, is the only kit that is accepted.
    """
    with new_kit_directory(places) as scratch:
        try:
            with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as archive:
                manifest = _read_members(archive, scratch)
        except (OSError, tarfile.TarError, EOFError) as error:
            raise KitError(f"{file} is not a kit: {error}") from error
        if digest not in (None, manifest.digest):
            raise KitError(f"{file} holds kit {manifest.digest}: expected {digest}")
        return install_kit(places, scratch, manifest)


def _read_members(archive: tarfile.TarFile, scratch: Path) -> KitManifest:
    """Take exactly the members a kit has, in their order, each a plain file of bounded size."""
    manifest = None
    for expected in MEMBERS:
        member = archive.next()
        if member is None or member.name != expected or not member.isreg():
            found = "nothing" if member is None else repr(member.name)
            raise KitError(f"the archive is not a kit: expected the file {expected!r}, found {found}")
        if member.size > (MAX_MANIFEST if expected == MANIFEST else MAX_FILE):
            raise KitError(f"{expected} in the archive has {member.size} bytes: too many for a kit")
        content = archive.extractfile(member)
        assert content is not None
        (scratch / expected).write_bytes(content.read())
        if expected == MANIFEST:
            manifest = KitManifest.from_bytes((scratch / expected).read_bytes())
    surplus = archive.next()
    if surplus is not None or manifest is None:
        raise KitError(f"the archive is not a kit: it also holds {surplus.name if surplus else 'nothing'!r}")
    return manifest
