"""Ask the VMM, once, which accelerator really boots our kernel here; afterwards its cached answer."""

import os
from collections.abc import Mapping

from cloister.kit import find_kit
from cloister.places import Places
from cloister.vmm import Footing, find_footing, find_jail, unpack_kernel


def probe_once(places: Places, environ: Mapping[str, str], architecture: str = "") -> Footing:
    """Return how machines of an architecture, by default the host's own, run on this host.

    Raises KitMissingError, JailMissingError or MachineError.
    """
    jail = find_jail(places, architecture)
    image = find_kit(places, architecture).kernel.read_bytes()
    kernel = os.memfd_create("probe-kernel")
    try:
        with os.fdopen(os.dup(kernel), "wb") as file:
            file.write(unpack_kernel(image) or image)
        return find_footing(places, jail, lambda: kernel, environ=environ)
    finally:
        os.close(kernel)
