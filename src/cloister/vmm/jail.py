"""The jail around QEMU: bubblewrap's argument vector, pure, and where the jail's root is.

The root is a read-only directory that holds QEMU and its libraries alone. Spec: DESIGN, "The jail".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from cloister.errors import CloisterError
from cloister.places import Places, own_architecture
from cloister.vmm.config import Architecture

UID_BASE: Final = 0x7000_0000
"""Root's machines run as users above what distributions, containers and systemd give out."""
STAGE: Final = "/tmp"  # noqa: S108 -- a mount point in the machine's own mount namespace, not a file
"""Where the jail's root is mounted for a starting process that may not walk to it."""


class JailMissingError(CloisterError):
    """There is no jail root on this host."""


@dataclass(frozen=True, slots=True)
class Jail:
    """A read-only tree with one QEMU in it."""

    directory: Path
    architecture: Architecture = "x86_64"
    """Whose machines this QEMU makes."""

    @property
    def identity(self) -> str:
        """The name of the tree's content: it changes when QEMU does."""
        return self.directory.name


def emulator_path(architecture: str) -> str:
    """Return where a jail has its QEMU, as an absolute path inside."""
    return f"/usr/bin/qemu-system-{architecture}"


def jail_link(places: Places, architecture: str) -> Path:
    """Return the link to the jail in use for an architecture."""
    return places.jails / ("current" if architecture == "x86_64" else f"current-{architecture}")


def find_jail(places: Places, architecture: str = "") -> Jail:
    """Return the jail that setup made, by default for this host's architecture; raises JailMissingError."""
    architecture = architecture or own_architecture()
    link = jail_link(places, architecture)
    directory = link.resolve()
    if not (directory / emulator_path(architecture).lstrip("/")).is_file():
        option = "" if architecture == own_architecture() else f" --arch {architecture}"
        raise JailMissingError(
            f"There is no QEMU jail for {architecture} enclaves at {link}: run 'cloister setup{option}'."
        )
    return Jail(directory, cast("Architecture", architecture))


def jail_command_line(root: str, *, seccomp_fd: int | None = None) -> list[str]:
    """Return bubblewrap's argument vector up to the command to run inside.

    From ``seccomp_fd`` bubblewrap reads what `seccomp_filter` returns; a mere trial of the jail goes without.
    """
    return [
        "bwrap",
        "--unshare-all",  # user, mount, pid, ipc, uts, cgroup, net: nothing is shared
        "--unshare-user",
        "--uid", "65534",
        "--gid", "65534",
        "--hostname", "enclave",
        "--ro-bind", root, "/",  # no /dev: even KVM arrives as an open descriptor
        "--proc", "/proc",  # image memory is opened as /proc/self/fd/N
        "--remount-ro", "/proc",  # as root without a user of its own, /proc/sys would be the host's to write
        "--cap-drop", "ALL",
        *(["--seccomp", str(seccomp_fd)] if seccomp_fd is not None else []),
        "--new-session",  # no way to push input into anybody's terminal
        "--die-with-parent",  # a killed supervisor takes its machine along
        "--as-pid-1",  # no reaper between: QEMU starts nothing
        "--clearenv",
        "--",
    ]  # fmt: skip
