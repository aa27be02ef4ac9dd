"""Preparing a host, step by step, and examining whether it is prepared."""

from cloister.setup.checks import Finding, examine
from cloister.setup.jail_root import JailRoot, JailRootError, ensure_jail_root, open_jail_root
from cloister.setup.steps import Progress, Step, Wishes, setup_steps
from cloister.setup.system_packages import SystemPackagesError, missing_packages

__all__ = [
    "Finding",
    "JailRoot",
    "JailRootError",
    "Progress",
    "Step",
    "SystemPackagesError",
    "Wishes",
    "ensure_jail_root",
    "examine",
    "missing_packages",
    "open_jail_root",
    "setup_steps",
]
