"""A Dockerfile's image, built by buildah into this host's container store: no daemon."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from cloister.fetch.limits import BUILD_SILENT_SECONDS, ContainerfileError, FetchError
from cloister.fetch.names import ImageName
from cloister.fetch.tools import ToolFailedError, Watch, require_tool, run_tool

_RUNTIMES = ("crun", "runc")


def build_containerfile(
    directory: Path,
    name: ImageName,
    *,
    workspace: Path,
    environ: Mapping[str, str],
    said: Callable[[str], None],
) -> ImageName:
    """Build ``directory/Dockerfile`` under a name and return where it is; raises ContainerfileError.

    ``said`` is told what buildah prints. SOURCE_DATE_EPOCH, where set, is the image's creation.
    """
    dockerfile = directory / "Dockerfile"
    if name.transport not in ("", "containers-storage") or not dockerfile.is_file():
        raise ContainerfileError(
            f"{directory} has no file named Dockerfile."
            if not name.transport
            else f"{name.text} is no name to build an image under: leave the prefix away."
        )
    try:
        words = [require_tool("buildah", f"to build {dockerfile}"), "build", "--pull=false"]
        words += [f"--file={dockerfile.absolute()}", f"--tag={name.as_built}"]
        if environ.get("SOURCE_DATE_EPOCH", "").isdecimal():
            words.append(f"--timestamp={environ['SOURCE_DATE_EPOCH']}")
        if "BUILDAH_ISOLATION" not in environ and not any(map(shutil.which, _RUNTIMES)):
            words.append("--isolation=chroot")  # buildah's own; the other ones need a runtime
        watch = Watch(BUILD_SILENT_SECONDS, on_output=said)
        run_tool([*words, "--", str(directory.absolute())], workspace, environ, watch)
    except (ToolFailedError, FetchError) as error:
        raise ContainerfileError(f"{dockerfile} cannot be built: {str(error).rstrip('.')}.") from error
    return ImageName.parse(f"containers-storage:{name.as_built}")
