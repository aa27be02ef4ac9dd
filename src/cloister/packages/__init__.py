"""The distribution's packages without root: resolve, verify, fetch, unpack."""

from cloister.packages.package import Package, PackageError, parse_uri_line
from cloister.packages.source import PackageSource, Progress
from cloister.packages.sources import (
    Archive,
    host_archives,
    parse_deb822,
    parse_one_line,
    read_os_release,
    release_of,
)
from cloister.packages.unpack import make_merged_usr, unpack_package

__all__ = [
    "Archive",
    "Package",
    "PackageError",
    "PackageSource",
    "Progress",
    "host_archives",
    "make_merged_usr",
    "parse_deb822",
    "parse_one_line",
    "parse_uri_line",
    "read_os_release",
    "release_of",
    "unpack_package",
]
