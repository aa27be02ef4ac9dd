"""Images from trees: a directory, tar, OCI layout or docker-archive becomes an enclave image, reproducibly.

No root, no daemon, nothing unpacked to disk but compressed layers. Spec: nitro-tools sections 2 and 3.
"""

from cloister.build.content import BuildError, FileError, open_region, read_bounded
from cloister.build.image import Recipe, build_image, build_time_from
from cloister.build.layers import Progress
from cloister.build.output import check_output
from cloister.build.signing import Signer, map_image, measure_image, sign_image
from cloister.build.source import UnsupportedSourceError
from cloister.build.tree import Limits

__all__ = [
    "BuildError",
    "FileError",
    "Limits",
    "Progress",
    "Recipe",
    "Signer",
    "UnsupportedSourceError",
    "build_image",
    "build_time_from",
    "check_output",
    "map_image",
    "measure_image",
    "open_region",
    "read_bounded",
    "sign_image",
]
