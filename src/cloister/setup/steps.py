"""What ``cloister setup`` does, in order; every step looks first whether there is anything left to do."""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cloister.errors import CloisterError
from cloister.kit import Kit, KitError, build_kit, find_kit
from cloister.kms import initialise_kms
from cloister.places import Places
from cloister.rootfs import assemble_examples
from cloister.setup.footing import probe_once
from cloister.setup.jail_root import ensure_jail_root
from cloister.setup.system_packages import SystemPackagesError, install_packages, missing_packages
from cloister.trust import TrustMissingError, initialise, open_trust

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


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to set up; ``run`` returns a sentence about the outcome."""

    title: str
    run: Callable[[Progress], str]


def setup_steps(places: Places, wishes: Wishes) -> list[Step]:
    """Return the steps in the order in which they depend on each other."""
    return [
        Step("system packages", lambda progress: _system_packages(places, wishes, progress)),
        Step("jail root with QEMU", lambda progress: _jail(places, wishes, progress)),
        Step("guest kit", lambda progress: _kit(places, wishes, progress)),
        Step("local root of trust", lambda _: _trust(places, wishes)),
        Step("KMS account", lambda _: _kms(places, wishes)),
        Step("example root filesystems", lambda progress: _examples(places, wishes, progress)),
        Step("accelerator", lambda progress: _accelerator(places, progress)),
    ]


def usable_kit(places: Places) -> Kit | None:
    """Return the kit in use if every file of it is right."""
    try:
        kit = find_kit(places)
        kit.verify()
    except KitError:
        return None
    return kit


def _system_packages(places: Places, wishes: Wishes, progress: Progress) -> str:
    missing = missing_packages(building=usable_kit(places) is None)
    if not missing:
        return "all installed"
    if not wishes.packages:
        raise SystemPackagesError(
            f"{', '.join(missing)} are missing and --no-packages was given: "
            f"run 'apt-get install --no-install-recommends {' '.join(missing)}'"
        )
    install_packages(missing, progress, offline=wishes.offline)
    return f"installed {', '.join(missing)}"


def _jail(places: Places, wishes: Wishes, progress: Progress) -> str:
    root = ensure_jail_root(places, offline=wishes.offline, progress=progress)
    return f"{root.origin}, {len(root.files)} files, {root.size / 1e6:.0f} MB, {root.digest[:12]}"


def _kit(places: Places, wishes: Wishes, progress: Progress) -> str:
    kit = usable_kit(places) or build_kit(places, progress=progress, offline=wishes.offline)
    return f"Linux {kit.kernel_version} from {kit.manifest.source_package}, {kit.digest[:12]}"


def _trust(places: Places, wishes: Wishes) -> str:
    try:
        trust = open_trust(places.pki)
    except TrustMissingError:
        instance = wishes.instance_id or f"i-{secrets.token_hex(9)[:17]}"
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
                f"this host's {name} is {have or 'none'}, not {wish}: an identity is for good; "
                f"remove {places.pki} to start a new one"
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


def _accelerator(places: Places, progress: Progress) -> str:
    progress(None, "booting a probe")
    footing = probe_once(places, os.environ)
    return footing.accelerator + (", each machine as a user of its own" if footing.own_user else "")
