"""The distribution's packages that this host must have installed: the only step that may need root."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister.errors import CloisterError
from cloister.places import own_architecture

INSTALL_SECONDS = 1800


class SystemPackagesError(CloisterError):
    """Something must be installed that this user may not, or apt could not, install."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One package and the file or program that shows it is there."""

    package: str
    program: str = ""
    header: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the program or header is on this host."""
        if self.program:
            return shutil.which(self.program, path=_search_path()) is not None
        return any((Path(root) / self.header).exists() for root in ("/usr/include", "/usr/local/include"))


RUNNING = (Requirement("bubblewrap", program="bwrap"),)
"""Needed to run enclaves."""

BUILDING = (
    Requirement("gcc", program="gcc"),
    Requirement("libc6-dev", header="stdio.h"),
    Requirement("make", program="make"),
    Requirement("flex", program="flex"),
    Requirement("bison", program="bison"),
    Requirement("bc", program="bc"),
    Requirement("libelf-dev", header="gelf.h"),
    Requirement("lz4", program="lz4"),
    Requirement("xz-utils", program="xz"),
    Requirement("perl-base", program="perl"),
)
"""Needed once, to build the guest kit; a kit that was imported needs none of them."""

CROSS = {
    "aarch64": (
        Requirement("gcc-aarch64-linux-gnu", program="aarch64-linux-gnu-gcc"),
        Requirement("libc6-dev-arm64-cross", header="/usr/aarch64-linux-gnu/include/stdio.h"),
    ),
    "x86_64": (
        Requirement("gcc-x86-64-linux-gnu", program="x86_64-linux-gnu-gcc"),
        Requirement("libc6-dev-amd64-cross", header="/usr/x86_64-linux-gnu/include/stdio.h"),
    ),
}
"""Needed for an architecture that is not the host's: to build its kit, and programs in C for its enclaves."""


def missing_packages(*, building: bool, architectures: Sequence[str] = ()) -> list[str]:
    """Return the names of the packages that are not installed; ``building``: whether to build a kit."""
    foreign = [name for name in architectures if name != own_architecture()]
    wanted = [*RUNNING, *(BUILDING if building else ()), *(need for name in foreign for need in CROSS[name])]
    return [requirement.package for requirement in wanted if not requirement.is_met]


def install_packages(
    packages: list[str], progress: Callable[[float | None, str], None], *, offline: bool
) -> None:
    """Install packages with apt-get; SystemPackagesError says what to run when that cannot be done here."""
    command = "apt-get install --no-install-recommends " + " ".join(packages)
    if os.geteuid() != 0:
        raise SystemPackagesError(f"{', '.join(packages)} must be installed first: run 'sudo {command}'")
    if offline:
        raise SystemPackagesError(
            f"{', '.join(packages)} must be installed first and we are offline: run '{command}'"
        )
    if shutil.which("apt-get") is None:
        raise SystemPackagesError(
            f"this host has no apt-get: install {', '.join(packages)} with its own tools"
        )
    progress(None, "apt-get update")
    _run(["apt-get", "-qq", "update"], command)
    progress(None, f"apt-get install {' '.join(packages)}")
    _run(["apt-get", "-qq", "-y", "install", "--no-install-recommends", "--", *packages], command)


def _run(arguments: list[str], advice: str) -> None:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        result = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS,
            check=False, env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise SystemPackagesError(
            f"{arguments[0]} took longer than {INSTALL_SECONDS} s: run '{advice}'"
        ) from error
    if result.returncode:
        reason = [line for line in result.stderr.splitlines() if line.startswith("E:")] or ["see its output"]
        raise SystemPackagesError(f"apt-get failed ({' '.join(reason)[:300]}): run '{advice}'")


def _search_path() -> str:
    """Users often lack the sbin directories; what lies there counts."""
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"
