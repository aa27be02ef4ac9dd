"""The distribution's container tools, unpacked once a host: ``<cache>/container-tools/<digest of recipe>/``.

The system stays as it is: two small scripts stand before the programs, which look for their libraries and
their signature policy where installed packages have them. A test's own files say where images are stored.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.errors import CloisterError
from cloister.kit import Progress
from cloister.packages import PackageSource, read_os_release, unpack_package
from cloister.places import Places

PACKAGES: Final = (
    "skopeo",
    "buildah",
    "docker-registry",
    "busybox-static",
    "docker.io",
    "containerd",
    "runc",
)
WANTED: Final = re.compile(
    "|".join(map(re.escape, PACKAGES)) + r"|golang-github-containers-(common|image)"
    r"|lib(gpgme|assuan|gpg-error|devmapper|subid|seccomp|nftables|nftnl|mnl)[0-9].*"
)
"""Of what they depend on, the rest is on every host or is not asked for here."""
PROGRAMS: Final = {
    "skopeo": 'set -- --policy "$root/etc/containers/policy.json" "$@"',
    "buildah": """\
policy=$root/etc/containers/policy.json
case "${1-} ${2-}" in
"build "* | "commit "* | "from "*) verb=$1; shift; set -- "$verb" --signature-policy "$policy" "$@" ;;
"manifest push") shift 2; set -- manifest push --signature-policy "$policy" "$@" ;;
esac""",
}
SCRIPT: Final = """\
#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")/root
{arguments}
LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-gnu) exec "$root/usr/bin/{program}" "$@"
"""


class ToolsMissingError(CloisterError):
    """Nobody has unpacked them on this host yet."""


@dataclass(frozen=True, slots=True)
class ContainerTools:
    """A directory with all of them."""

    directory: Path

    @property
    def root(self) -> Path:
        """Where the packages are unpacked."""
        return self.directory / "root"

    @property
    def libraries(self) -> Path:
        """What their programs are linked with."""
        return next(self.root.glob("usr/lib/*-linux-gnu"))

    def environment(self, own: Path) -> dict[str, str]:
        """Return what puts them on the path, and keeps images and settings in a directory of its own."""
        own.mkdir(parents=True, exist_ok=True)
        storage = own / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{own}/images"\nrunroot = "{own}/mounts"\n'
        )
        containers = own / "containers.conf"
        containers.write_text(f'[network]\nnetwork_config_dir = "{own}/networks"\n')
        registries, credentials = own / "registries.conf", own / "auth.json"
        registries.write_text("")
        credentials.write_text("{}")
        return {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "CONTAINERS_CONF": str(containers),
            "CONTAINERS_STORAGE_CONF": str(storage),
            "CONTAINERS_REGISTRIES_CONF": str(registries),
            "REGISTRY_AUTH_FILE": str(credentials),
            "DOCKER_HOST": f"unix://{own}/no-docker.sock",
        }


def find_tools(places: Places) -> ContainerTools:
    """Return what was unpacked; ToolsMissingError says how to have it."""
    directory = places.cache / "container-tools" / _digest()
    if not directory.is_dir():
        raise ToolsMissingError("the container tools are not on this host: run 'make containers'")
    return ContainerTools(directory)


def unpack_tools(places: Places, progress: Progress) -> ContainerTools:
    """Fetch and unpack what is not there yet; PackageError when it cannot be had."""
    home = places.cache / "container-tools"
    with _alone(home), tempfile.TemporaryDirectory(dir=home, prefix=".making-") as scratch:
        try:
            return find_tools(places)
        except ToolsMissingError:
            pass
        done = Path(scratch, "done")
        (done / "bin").mkdir(parents=True)
        source = PackageSource(places, suites=[read_os_release().get("VERSION_CODENAME", "unknown")])
        source.update()
        packages = [package for package in source.resolve(PACKAGES) if WANTED.fullmatch(package.name)]
        files = source.fetch_all(
            packages, progress=lambda got, total, what: progress(got / max(total, 1), f"fetching {what}")
        )
        for file in files:
            unpack_package(file, done / "root")
        for program, arguments in PROGRAMS.items():
            script = done / "bin" / program
            script.write_text(SCRIPT.format(program=program, arguments=arguments))
            script.chmod(0o755)
        for other in home.glob("[0-9a-f]*"):
            shutil.rmtree(other)
        done.rename(home / _digest())
    return find_tools(places)


def _digest() -> str:
    """Name what is unpacked after this recipe and the release it is taken from."""
    recipe = f"{read_os_release().get('VERSION_CODENAME')} {PACKAGES} {WANTED.pattern} {PROGRAMS} {SCRIPT}"
    return hashlib.sha256(recipe.encode()).hexdigest()[:32]


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in home.glob(".making-*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield
