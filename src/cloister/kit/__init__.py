"""The guest kit: kernel, init and command line, built from source, named by digest."""

from cloister.kit.build import build_kit
from cloister.kit.manifest import ARCHITECTURES, Kit, KitError, KitManifest, KitMissingError
from cloister.kit.origin import Origin, origin_of
from cloister.kit.store import choose_kit, find_kit, list_kits, open_kit, use_kit
from cloister.kit.toolchain import Progress, missing_tools
from cloister.kit.transfer import export_kit, import_kit

__all__ = [
    "ARCHITECTURES",
    "Kit",
    "KitError",
    "KitManifest",
    "KitMissingError",
    "Origin",
    "Progress",
    "build_kit",
    "choose_kit",
    "export_kit",
    "find_kit",
    "import_kit",
    "list_kits",
    "missing_tools",
    "open_kit",
    "origin_of",
    "use_kit",
]
