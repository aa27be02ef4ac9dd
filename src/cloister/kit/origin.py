"""Why a kit is the one in use: built here from these sources of ours, or chosen by a person.

``<kits>/origin-<architecture>.json`` beside the link. What it says counts only for the kit that it names: one
put in use in any other way, by a former version for instance, is of unknown origin, and set-up makes another.
"""

import hashlib
import json
import os
from enum import Enum
from importlib.resources import files
from pathlib import Path

from cloister.kit.cmdline import CMDLINE
from cloister.kit.guest_init import FLAGS
from cloister.kit.kernel import kernel_configuration
from cloister.kit.manifest import Kit
from cloister.places import Places


class Origin(Enum):
    """Where the kit in use comes from."""

    OURS = "built here from the guest sources of this version"
    CHOSEN = "chosen with 'cloister kit import' or 'cloister kit use'"
    OUTDATED = "built from other guest sources than this version's, or nobody knows from which"


def guest_sources(architecture: str) -> str:
    """Return the SHA-256 of all of ours that decides a kit: init, its flags, configuration, command line."""
    digest = hashlib.sha256()
    guest = files("cloister").joinpath("guest")
    for source in sorted((f for f in guest.iterdir() if f.name.endswith((".c", ".h"))), key=lambda f: f.name):
        content = hashlib.sha256(source.read_bytes()).hexdigest()
        digest.update(f"{source.name} {content}\n".encode())
    rest = [*FLAGS, CMDLINE[architecture], kernel_configuration(architecture)]
    digest.update("\n".join(rest).encode())
    return digest.hexdigest()


def note_origin(places: Places, kit: Kit, sources: str | None) -> None:
    """Remember from which guest sources the kit in use was built; None: a person chose it."""
    path = _path(places, kit.architecture)
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(json.dumps({"kit": kit.digest, "sources": sources}))
    draft.replace(path)


def origin_of(places: Places, kit: Kit) -> Origin:
    """Say where a kit that is in use comes from."""
    try:
        known = json.loads(_path(places, kit.architecture).read_text())
        if known["kit"] != kit.digest:
            return Origin.OUTDATED
        sources = known["sources"]
    except (OSError, ValueError, KeyError, TypeError):
        return Origin.OUTDATED
    if sources is None:
        return Origin.CHOSEN
    return Origin.OURS if sources == guest_sources(kit.architecture) else Origin.OUTDATED


def _path(places: Places, architecture: str) -> Path:
    return places.kits / f"origin-{architecture}.json"
