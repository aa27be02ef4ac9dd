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


def make_token(directory: Path) -> SoftToken:
    """Make a token under a directory; raise PackageError where SoftHSM cannot be had.

    The library reads SOFTHSM2_CONF, which is set for this process, once.
    """
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
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    words = ["--init-token", "--free", "--label", LABEL, "--so-pin", "52713684", "--pin", PIN]
    subprocess.run(
        [root / "usr/bin/softhsm2-util", "--module", module, *words],
        env={**os.environ, "LD_LIBRARY_PATH": str(module.parent.parent)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    pin_file = directory / "pin"
    pin_file.write_text(f"{PIN}\n")
    return SoftToken(module, pin_file)
