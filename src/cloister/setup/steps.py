"""What ``cloister setup`` does, in order; every step looks first whether there is anything left to do."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cloister.errors import CloisterError
from cloister.kit import ARCHITECTURES, Kit, KitError, Origin, build_kit, find_kit, origin_of
from cloister.kms import initialise_kms
from cloister.places import Places, own_architecture
from cloister.rootfs import assemble_examples
from cloister.setup.footing import probe_once
from cloister.setup.jail_root import ensure_jail_root
from cloister.setup.system_packages import SystemPackagesError, install_packages, missing_packages
from cloister.trust import TrustMissingError, initialise, look, new_instance_id

Progress = Callable[[float | None, str], None]
"""Called with the share done (0 to 1, or None when unknown) and what is being done."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person asked of set-up."""

    offline: bool = False
    packages: bool = True
    update_lock: bool = False
    instance_id: str = ""
    region: str = "us-east-1"
    role_arn: str | None = None
    architectures: tuple[str, ...] = ()
    """Whose enclaves are to run here; the host's own first, and always."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to set up; ``run`` returns a sentence about the outcome."""

    title: str
    run: Callable[[Progress], str]


def setup_steps(places: Places, wishes: Wishes) -> list[Step]:
    """Return the steps in the order in which they depend on each other."""
    own = own_architecture()
    if own not in ARCHITECTURES:
        raise CloisterError(f"this host is {own}: expected {' or '.join(ARCHITECTURES)}")
    wishes = replace(wishes, architectures=tuple(dict.fromkeys((own, *wishes.architectures))))
    others = wishes.architectures[1:]
    return [
        Step("system packages", lambda progress: _system_packages(places, wishes, progress)),
        *_machine_steps(places, wishes, own),
        Step("local root of trust", lambda _: _trust(places, wishes)),
        Step("KMS account", lambda _: _kms(places, wishes)),
        Step("example root filesystems", lambda progress: _examples(places, wishes, progress)),
        _accelerator_step(places, own),
        *(step for other in others for step in _machine_steps(places, wishes, other)),
        *(_accelerator_step(places, other) for other in others),
    ]


def _machine_steps(places: Places, wishes: Wishes, architecture: str) -> list[Step]:
    """Return what machines of an architecture are made of."""
    suffix = _suffix(architecture)
    return [
        Step(f"jail root with QEMU{suffix}", lambda progress: _jail(places, wishes, architecture, progress)),
        Step(f"guest kit{suffix}", lambda progress: _kit(places, wishes, architecture, progress)),
    ]


def _accelerator_step(places: Places, architecture: str) -> Step:
    title = f"accelerator{_suffix(architecture)}"
    return Step(title, lambda progress: _accelerator(places, architecture, progress))


def _suffix(architecture: str) -> str:
    return "" if architecture == own_architecture() else f" for {architecture}"


def usable_kit(places: Places, architecture: str) -> Kit | None:
    """Return the kit in use if every file of it is right and it is this version's, or a person chose it."""
    try:
        kit = find_kit(places, architecture)
        kit.verify()
    except KitError:
        return None
    return kit if origin_of(places, kit) is not Origin.OUTDATED else None


def _system_packages(places: Places, wishes: Wishes, progress: Progress) -> str:
    building = any(usable_kit(places, architecture) is None for architecture in wishes.architectures)
    missing = missing_packages(building=building, architectures=wishes.architectures)
    if not missing:
        return "all installed"
    if not wishes.packages:
        raise SystemPackagesError(
            f"{', '.join(missing)} are missing and --no-packages was given: "
            f"run 'apt-get install --no-install-recommends {' '.join(missing)}'"
        )
    install_packages(missing, progress, offline=wishes.offline)
    return f"installed {', '.join(missing)}"


def _jail(places: Places, wishes: Wishes, architecture: str, progress: Progress) -> str:
    root = ensure_jail_root(places, architecture, offline=wishes.offline, progress=progress)
    return f"{root.origin}, {len(root.files)} files, {root.size / 1e6:.0f} MB, {root.digest[:12]}"


def _kit(places: Places, wishes: Wishes, architecture: str, progress: Progress) -> str:
    kit = usable_kit(places, architecture) or build_kit(
        places, progress=progress, architecture=architecture, offline=wishes.offline
    )
    chosen = origin_of(places, kit) is Origin.CHOSEN
    note = f"; kept, for it was {Origin.CHOSEN.value}" if chosen else ""
    return f"Linux {kit.kernel_version} from {kit.manifest.source_package}, {kit.digest[:12]}{note}"


def _trust(places: Places, wishes: Wishes) -> str:
    try:
        trust = look(places.pki, datetime.now(UTC)).trust  # a damaged part is named, and nothing is replaced
    except TrustMissingError:
        instance = wishes.instance_id or new_instance_id()
        trust = initialise(
            places.pki,
            region=wishes.region,
            instance_id=instance,
            role_arn=wishes.role_arn,
            now=datetime.now(UTC),
        )
        return f"made for {trust.instance_id} in {trust.region}"
    for name, wish, have in (
        ("instance id", wishes.instance_id, trust.instance_id),
        ("role", wishes.role_arn, trust.role_arn),
    ):
        if wish and wish != have:
            raise CloisterError(
                f"this host's {name} is {have or 'none'}, not {wish}: "
                "change it with 'cloister host set', for enclaves to come"
            )
    return f"{trust.instance_id} in {trust.region}"


def _kms(places: Places, wishes: Wishes) -> str:
    account = initialise_kms(places.kms, region=wishes.region)
    return f"account {account.account} in {account.region}"


def _examples(places: Places, wishes: Wishes, progress: Progress) -> str:
    roots = assemble_examples(
        places,
        offline=wishes.offline,
        update_lock=wishes.update_lock,
        progress=lambda what: progress(None, what),
    )
    return ", ".join(roots)


def _accelerator(places: Places, architecture: str, progress: Progress) -> str:
    progress(None, "booting a probe")
    footing = probe_once(places, os.environ, architecture)
    return footing.accelerator + (", each machine as a user of its own" if footing.own_user else "")
