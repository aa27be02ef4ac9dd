"""The package archives this host trusts, read from its own apt configuration.

Both formats of sources.list(5): one line an archive (``*.list``) and deb822 stanzas (``*.sources``). What is
kept is where an archive is and which keys sign it; nothing here names a server.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister.packages.package import PackageError

POCKETS = ("-backports-sloppy", "-backports", "-updates", "-security", "-proposed-updates")


@dataclass(frozen=True, slots=True)
class Archive:
    """One suite of one archive, as the host's administrator configured it."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""
    """Key files or fingerprints, or a whole key; empty: the host's trusted keys."""
    check_valid_until: str = ""

    def stanza(self, suite: str, components: Sequence[str]) -> str:
        """Write this archive as deb822, for another suite and fetching package indexes only."""
        lines = [
            "Types: deb",
            f"URIs: {self.uri}",
            f"Suites: {suite}",
            f"Components: {' '.join(components)}",
            "Targets: Packages",
        ]
        if self.signed_by:
            lines.append(
                f"Signed-By: {self.signed_by}"
                if "\n" not in self.signed_by
                else f"Signed-By:{self.signed_by}"
            )
        if self.check_valid_until:
            lines.append(f"Check-Valid-Until: {self.check_valid_until}")
        return "\n".join(lines) + "\n"


def parse_one_line(text: str) -> Iterator[Archive]:
    """Yield the binary archives of a one-line-style list; other lines are skipped as apt skips comments."""
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        match = re.fullmatch(
            r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)", line
        )
        if match is None:
            continue
        options = dict(word.partition("=")[::2] for word in (match["options"] or "").split())
        yield Archive(
            uri=match["uri"],
            suite=match["suite"],
            components=tuple(match["components"].split()),
            signed_by=options.get("signed-by", "").replace(",", " "),
            check_valid_until=options.get("check-valid-until", ""),
        )


def parse_deb822(text: str) -> Iterator[Archive]:
    """Yield the binary archives of a deb822 sources file, one for each URI and suite."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
            "0",
        ):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Archive(
                    uri=uri,
                    suite=suite,
                    components=tuple(fields.get("components", "").split()),
                    signed_by=fields.get("signed-by", ""),
                    check_valid_until=fields.get("check-valid-until", ""),
                )


def _fields(stanza: str) -> dict[str, str]:
    """Split a stanza; a continuation line keeps its newline, which an embedded key needs."""
    fields: dict[str, str] = {}
    last = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t") and last:
            fields[last] += "\n" + line.rstrip()
        elif ":" in line:
            name, _, value = line.partition(":")
            last = name.strip().lower()
            fields[last] = value.strip()
    return fields


def host_archives(etc: Path = Path("/etc/apt")) -> list[Archive]:
    """Read every archive the host's apt is configured with."""
    lists = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]
    stanzas = sorted((etc / "sources.list.d").glob("*.sources"))
    archives = [
        found
        for path in lists
        if path.is_file()
        for found in parse_one_line(path.read_text(errors="replace"))
    ]
    archives += [found for path in stanzas for found in parse_deb822(path.read_text(errors="replace"))]
    return archives


def release_of(suite: str) -> str:
    """Return a suite's release: ``trixie`` for ``trixie-backports``."""
    return next((suite.removesuffix(pocket) for pocket in POCKETS if suite.endswith(pocket)), suite)


def archive_for(suite: str, archives: Sequence[Archive], os_release: Mapping[str, str]) -> Archive:
    """Choose where to get a suite: the host's own line for it, else the mirror of the host's own release.

    Raises PackageError when the host's apt knows no mirror of its distribution.
    """
    own = os_release.get("VERSION_CODENAME", "")
    security = suite.endswith("-security")
    wanted = (suite, f"{own}-security" if security else own, "stable-security" if security else "stable")
    for name in wanted:
        for archive in archives:
            if name and archive.suite == name and "main" in archive.components:
                return archive
    raise PackageError(
        f"no archive for {suite} in this host's apt configuration: expected a line for {suite} or for "
        f"{own or 'its own release'} with component main in /etc/apt/sources.list or sources.list.d"
    )


def read_os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Read os-release(5); empty when the host has none."""
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in path.read_text(errors="replace").splitlines() if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
