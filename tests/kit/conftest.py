"""A kit that is small, whole and installed in places of its own."""

from pathlib import Path

import pytest

from cloister.kit import Kit, KitManifest, use_kit
from cloister.kit.manifest import FILES
from cloister.kit.store import digests_of, install_kit, new_kit_directory
from cloister.places import Places


def install(places: Places, kernel: bytes) -> Kit:
    """Install a kit with a given "kernel"."""
    with new_kit_directory(places) as scratch:
        (scratch / "kernel").write_bytes(kernel)
        (scratch / "init").write_bytes(b"\x7fELF init")
        (scratch / "cmdline").write_text("console=ttyS0 reboot=t")
        (scratch / "kernel.config").write_text("CONFIG_X=y\n")
        manifest = KitManifest(
            architecture="x86_64",
            kernel_version="6.12.1",
            source_package="linux-source-6.12",
            source_version="6.12.1-1",
            source_sha256="0" * 64,
            compiler="gcc 12",
            files=digests_of(scratch, FILES),
        )
        return install_kit(places, scratch, manifest)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Give every test places of its own."""
    return Places.from_environment({}, root=False, home=tmp_path / "home")


@pytest.fixture
def kit(places: Places) -> Kit:
    """Install a kit and use it."""
    kit = install(places, b"kernel one")
    use_kit(places, kit)
    return kit
