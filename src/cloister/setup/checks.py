"""What ``cloister doctor`` looks at: each precondition, what was found, and how to mend it."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cloister.errors import CloisterError
from cloister.kit import ARCHITECTURES, Origin, find_kit, origin_of
from cloister.places import Places, own_architecture
from cloister.resources import load_pool
from cloister.setup.footing import probe_once
from cloister.setup.jail_root import OLDEST_QEMU, open_jail_root, parse_version
from cloister.setup.system_packages import missing_packages
from cloister.trust import TrustDamagedError, look
from cloister.vmm import emulator_path, find_jail, jail_command_line, jail_link

TRY_SECONDS = 20
LEAST_MEMORY_MIB = 1024
LEAST_DISK_MIB = 4096
LEAST_PYTHON = (3, 11)


class PreconditionError(CloisterError):
    """One precondition is not met; ``fix`` says how to mend it."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    ok: bool
    needed: bool
    """Whether enclaves cannot run without it."""
    found: str
    fix: str

    def to_json(self) -> dict[str, str | bool]:
        """Return the finding as JSON's types."""
        return asdict(self)


def examine(places: Places) -> Iterator[Finding]:
    """Check every precondition, in the order in which set-up provides them."""
    checks: tuple[tuple[str, bool, Callable[[Places], str], str], ...] = (
        ("python", True, _python, "install Python 3.11 or newer"),
        ("system packages", True, _packages, "run 'cloister setup' as root"),
        ("sandbox", True, _sandbox, "install bubblewrap and allow unprivileged user namespaces"),
        ("jail root", True, _jail, "run 'cloister setup'"),
        ("QEMU in its jail", True, _emulator, "run 'cloister setup'"),
        ("guest kit", True, _kit, "run 'cloister setup', or 'cloister kit import FILE'"),
        ("root of trust", True, _trust, "run 'cloister setup'"),
        ("KMS account", True, _kms, "run 'cloister setup'"),
        ("accelerator", True, _accelerator, "run 'cloister setup' first; it needs the jail and the kit"),
        ("KVM", False, _kvm, "slower emulation is used meanwhile"),
        *(
            (
                f"{other} enclaves",
                False,
                partial(_other, architecture=other),
                f"run 'cloister setup --arch {other}'",
            )
            for other in ARCHITECTURES
            if other != own_architecture()
        ),
        ("memory", True, _memory, "end something, or add memory"),
        ("CPU pool", False, _pool, "run nitro-enclaves-allocator again"),
        ("disk space", True, _disk, "remove what is not needed; caches may go"),
        ("run directory", True, lambda p: _writable(p.run), "create it and give it to this user"),
        ("log directory", True, lambda p: _writable(p.logs), "create it and give it to this user"),
    )
    for name, needed, check, fix in checks:
        try:
            yield Finding(name, ok=True, needed=needed, found=check(places), fix="")
        except PreconditionError as error:
            yield Finding(name, ok=False, needed=needed, found=error.message, fix=error.fix)
        except CloisterError as error:
            found = error.message.partition(": run '")[0]  # the advice has a line of its own
            yield Finding(name, ok=False, needed=needed, found=found, fix=fix)
        except (OSError, subprocess.SubprocessError) as error:
            yield Finding(name, ok=False, needed=needed, found=f"cannot be checked: {error}", fix=fix)


def _python(_: Places) -> str:
    if sys.version_info < LEAST_PYTHON:
        raise CloisterError(f"Python {platform.python_version()} is too old")
    return platform.python_version()


def _packages(_: Places) -> str:
    missing = missing_packages(building=False)
    if missing:
        raise PreconditionError(
            f"{', '.join(missing)} not installed", f"run 'apt-get install {' '.join(missing)}' as root"
        )
    absent = missing_packages(building=True)
    return f"enough to run enclaves; to build a kit also {', '.join(absent)}" if absent else "all installed"


def _sandbox(_: Places) -> str:
    """Use what the jail uses: every namespace, no capabilities."""
    if shutil.which("bwrap") is None:
        raise PreconditionError("bubblewrap is not installed", "run 'apt-get install bubblewrap' as root")
    command = [
        "bwrap",
        "--unshare-all",
        "--unshare-user",
        "--cap-drop",
        "ALL",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
    ]
    result = _try([*command, "--", "/bin/true"])
    if result.returncode:
        raise PreconditionError(
            f"bubblewrap cannot make namespaces: {result.stderr.strip()[:200]}",
            "as root run 'sysctl kernel.unprivileged_userns_clone=1' or, on Ubuntu, "
            "'sysctl kernel.apparmor_restrict_unprivileged_userns=0'",
        )
    return "bubblewrap makes every namespace"


def _jail(places: Places, architecture: str = "") -> str:
    architecture = architecture or own_architecture()
    root = open_jail_root(places, architecture, check=True)
    if root is None:
        raise CloisterError(f"no whole jail root at {jail_link(places, architecture)}")
    return f"{root.origin}, {root.size / 1e6:.0f} MB, {root.digest[:12]}"


def _emulator(places: Places, architecture: str = "") -> str:
    jail = find_jail(places, architecture)
    emulator = emulator_path(jail.architecture)
    result = _try([*jail_command_line(str(jail.directory)), emulator, "--version"])
    version = parse_version(result.stdout)
    if result.returncode or version is None:
        raise CloisterError(
            f"QEMU does not run in its jail: {result.stderr.strip()[:200] or result.stdout[:200]}"
        )
    oldest = OLDEST_QEMU[jail.architecture]
    if version < oldest:
        raise CloisterError(f"QEMU {version[0]}.{version[1]} is too old: expected {oldest[0]}.{oldest[1]}")
    return result.stdout.partition("\n")[0]


def _kit(places: Places, architecture: str = "") -> str:
    kit = find_kit(places, architecture)
    kit.verify()
    origin = origin_of(places, kit)
    note = "" if origin is Origin.OURS else f", {origin.value}"
    return f"Linux {kit.kernel_version}, {kit.digest[:12]}{note}"


def _other(places: Places, architecture: str) -> str:
    """Look at all that enclaves of another architecture need beyond the host's own."""
    _jail(places, architecture)
    return f"{_emulator(places, architecture)}; {_kit(places, architecture)}"


def _trust(places: Places) -> str:
    try:
        trust = look(places.pki, datetime.now(UTC)).trust  # root.key too
    except TrustDamagedError as error:
        found, _, fix = error.message.partition(": ")
        raise PreconditionError(found, fix) from error
    return f"{trust.instance_id} in {trust.region}"


def _kms(places: Places) -> str:
    credentials = places.kms / "credentials"
    missing = [name for name in ("administrator", "enclave") if not (credentials / name).is_file()]
    if missing:
        raise CloisterError(f"no credentials of {' and '.join(missing)} in {credentials}")
    return "administrator and role enclave"


def _accelerator(places: Places) -> str:
    footing = probe_once(places, os.environ)
    own_user = ", each machine as a user of its own" if footing.own_user else ""
    return footing.accelerator + own_user + (f" (refused: {footing.refused})" if footing.refused else "")


def _kvm(places: Places) -> str:
    device = Path("/dev/kvm")
    if not device.exists():
        raise PreconditionError("there is no /dev/kvm", "enable virtualisation, or go on with emulation")
    if not os.access(device, os.R_OK | os.W_OK):
        raise PreconditionError(
            "/dev/kvm may not be used by this user", "join the group kvm ('usermod -aG kvm USER' as root)"
        )
    if probe_once(places, os.environ).accelerator != "kvm":
        raise PreconditionError(
            "/dev/kvm is there but no kernel boots with it", "go on with emulation, or repair the host's KVM"
        )
    return "works"


def _memory(_: Places) -> str:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) // 1024
    if available < LEAST_MEMORY_MIB:
        raise CloisterError(f"{available} MiB available: expected {LEAST_MEMORY_MIB} MiB")
    return f"{available} MiB available"


def _pool(places: Places) -> str:
    pool = load_pool(places.run)
    if pool is None:
        return "none: enclaves share this host's CPUs"
    pages = " on huge pages" if pool.pages else ""
    shared = "; relaxed: its CPUs are shared" if pool.relaxed else ""
    kept = "" if pool.cgroup is None else "; other processes are kept off"
    return f"CPUs {', '.join(map(str, pool.cpus))}, {pool.memory_mib} MiB{pages}{kept}{shared}"


def _disk(places: Places) -> str:
    existing = next(path for path in (places.cache, *places.cache.parents) if path.exists())
    free = shutil.disk_usage(existing).free >> 20
    if free < LEAST_DISK_MIB:
        raise CloisterError(f"{free} MiB free under {existing}: a kit build needs {LEAST_DISK_MIB} MiB")
    return f"{free} MiB free under {existing}"


def _writable(directory: Path) -> str:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise CloisterError(f"{directory} cannot be written: {existing} belongs to somebody else")
    return str(directory) if directory.exists() else f"{directory} (made when needed)"


def _try(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TRY_SECONDS, check=False
    )
