"""Images from elsewhere: a registry, a Docker daemon, a container store or a Dockerfile, brought here.

``skopeo`` and ``buildah`` do what they are good at, as child processes with a clean environment; a Docker
daemon is asked directly. What arrives is an OCI layout or a docker-archive that ``cloister.build`` reads.
"""

from cloister.fetch.containerfile import build_containerfile
from cloister.fetch.images import Fetched, fetch_image
from cloister.fetch.limits import ContainerfileError, FetchError, FetchOptions
from cloister.fetch.names import ImageName, image_named, is_local
from cloister.fetch.workspace import open_workspace

__all__ = [
    "ContainerfileError",
    "FetchError",
    "FetchOptions",
    "Fetched",
    "ImageName",
    "build_containerfile",
    "fetch_image",
    "image_named",
    "is_local",
    "open_workspace",
]
