"""SoftHSM, a PKCS#11 token in files: the distribution's packages, unpacked, with one token."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cloister.packages import PackageSource, read_os_release, unpack_package
from cloister.places import current_places

PIN = "648219"
LABEL = "cloister test"
_PACKAGES = ("libsofthsm2", "softhsm2")


@dataclass(frozen=True)
class SoftToken:
    """A token, the library that speaks to it and the file that holds its PIN."""

    module: Path
    pin_file: Path

    def uri(self, label: str, *, pin: bool = True) -> str:
        """Return the URI of an object on the token."""
        source = f"&pin-source=file:{self.pin_file}" if pin else ""
        return f"pkcs11:token=cloister%20test;object={label};type=private?module-path={self.module}{source}"


@dataclass(frozen=True)
class SoftHsm:
    """SoftHSM unpacked: its library, and a directory with its command."""

    module: Path
    commands: Path
    configuration: Path


def unpack_softhsm(directory: Path) -> SoftHsm:
    """Unpack SoftHSM under a directory, its tokens beside it; raise PackageError where it cannot be had."""
    source = PackageSource(current_places(), suites=[read_os_release()["VERSION_CODENAME"]])
    source.update()
    wanted = [package for package in source.resolve(["softhsm2"]) if package.name in _PACKAGES]
    root = directory / "root"
    root.mkdir()
    for file in source.fetch_all(wanted):
        unpack_package(file, root)
    (module,) = root.glob("usr/lib/*/softhsm/libsofthsm2.so")
    (directory / "tokens").mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    command = directory / "bin/softhsm2-util"
    command.parent.mkdir()
    command.write_text(
        f"#!/bin/sh\nLD_LIBRARY_PATH={module.parent.parent} exec {root}/usr/bin/softhsm2-util "
        f'--module {module} "$@"\n'
    )
    command.chmod(0o755)
    return SoftHsm(module, command.parent, configuration)


def make_token(directory: Path) -> SoftToken:
    """Make a token under a directory; raise PackageError where SoftHSM cannot be had.

    The library reads SOFTHSM2_CONF, which is set for this process, once.
    """
    softhsm = unpack_softhsm(directory)
    os.environ["SOFTHSM2_CONF"] = str(softhsm.configuration)
    words = ["--init-token", "--free", "--label", LABEL, "--so-pin", "52713684", "--pin", PIN]
    subprocess.run([softhsm.commands / "softhsm2-util", *words], capture_output=True, timeout=60, check=True)
    pin_file = directory / "pin"
    pin_file.write_text(f"{PIN}\n")
    return SoftToken(softhsm.module, pin_file)
