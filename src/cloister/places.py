"""Where things live on this host: sockets, logs, state, caches.

The environment variables are nitro-cli's own (``NITRO_CLI_SOCKETS_PATH``, ``NITRO_CLI_LOGS_PATH``,
``NITRO_CLI_ARTIFACTS``) and the XDG base directory specification's; for root the defaults are nitro-cli's.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of one user on one host; none of them need exist yet."""

    run: Path
    """Control sockets and the vsock address tree; gone after a reboot."""
    logs: Path
    """Logs and what is kept of ended enclaves."""
    state: Path
    """What must not be lost: root of trust, KMS database, credentials."""
    cache: Path
    """What can be made again: jail, kits, downloads."""
    artifacts: Path
    """Scratch space of image builds."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, root: bool, home: Path) -> "Places":
        """Decide every place from the environment alone."""
        state = _xdg(environ, "XDG_STATE_HOME", home / ".local/state")
        cache = _xdg(environ, "XDG_CACHE_HOME", home / ".cache")
        runtime = environ.get("XDG_RUNTIME_DIR")
        private_run = Path(runtime, "cloister") if runtime else state / "run"
        run = Path("/run/nitro_enclaves") if root else private_run
        logs = Path("/var/log/nitro_enclaves") if root else state / "logs"
        return cls(
            run=Path(environ.get("NITRO_CLI_SOCKETS_PATH") or run),
            logs=Path(environ.get("NITRO_CLI_LOGS_PATH") or logs),
            state=state,
            cache=cache,
            artifacts=Path(environ.get("NITRO_CLI_ARTIFACTS") or cache / "artifacts"),
        )

    @property
    def pki(self) -> Path:
        """The local root of trust."""
        return self.state / "pki"

    @property
    def kms(self) -> Path:
        """The KMS database, its root key and the credentials it handed out."""
        return self.state / "kms"

    @property
    def kits(self) -> Path:
        """Guest kits: kernel, init and command line, by digest."""
        return self.cache / "kits"

    @property
    def jails(self) -> Path:
        """Read-only roots in which QEMU runs."""
        return self.cache / "jails"

    @property
    def downloads(self) -> Path:
        """Packages and sources as they came from their archives."""
        return self.cache / "downloads"

    @property
    def vsock(self) -> Path:
        """The vsock address tree: ``<cid>/<port>`` listens, ``<cid>/mux`` connects."""
        return self.run / "vsock"


def _xdg(environ: Mapping[str, str], name: str, default: Path) -> Path:
    """Relative paths in XDG variables are to be ignored (XDG base directory specification 0.8)."""
    value = environ.get(name, "")
    return (Path(value) if value.startswith("/") else default) / "cloister"


def own_architecture() -> str:
    """Return this host's architecture as kernels name it, such as ``x86_64`` or ``aarch64``."""
    return os.uname().machine


def current_places() -> Places:
    """Return the places of the user who runs this process."""
    return Places.from_environment(os.environ, root=os.geteuid() == 0, home=Path.home())
