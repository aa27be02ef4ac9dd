"""Where packages come from: the host's own apt configuration, in both of its formats."""

from pathlib import Path

import pytest

from cloister.packages import Archive, PackageError, host_archives, parse_deb822, parse_one_line, release_of
from cloister.packages.sources import archive_for

ONE_LINE = """\
# a comment
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] https://mirror.example/debian trixie main contrib # why
deb-src https://mirror.example/debian trixie main
deb http://plain.example/debian bookworm main

deb broken
"""

DEB822 = """\
Types: deb deb-src
URIs: http://one.example/debian https://two.example/debian
Suites: bookworm bookworm-updates
Components: main
# in the middle
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 bWFn
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: trixie
Components: main
"""


def test_one_line_lists_give_binary_archives_with_their_keys() -> None:
    """Options are understood, comments, sources and broken lines are passed over."""
    assert list(parse_one_line(ONE_LINE)) == [
        Archive("https://mirror.example/debian", "trixie", ("main", "contrib"), "/usr/share/keyrings/a.gpg"),
        Archive("http://plain.example/debian", "bookworm", ("main",)),
    ]


def test_deb822_gives_one_archive_for_each_uri_and_suite() -> None:
    """Disabled stanzas and sources are passed over, and an embedded key survives the way back."""
    found = list(parse_deb822(DEB822))
    assert [(archive.uri, archive.suite) for archive in found] == [
        ("http://one.example/debian", "bookworm"),
        ("http://one.example/debian", "bookworm-updates"),
        ("https://two.example/debian", "bookworm"),
        ("https://two.example/debian", "bookworm-updates"),
    ]
    again = list(parse_deb822(found[0].stanza("bookworm", ["main"])))
    assert again == [found[0]]
    assert "bWFn" in again[0].signed_by


def test_every_file_of_the_host_is_read(tmp_path: Path) -> None:
    """The main list, the parts in both formats, and nothing with another ending."""
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/ s1 main\n")
    (parts / "b.list").write_text("deb http://b.example/ s2 main\n")
    (parts / "c.sources").write_text("Types: deb\nURIs: http://c.example/\nSuites: s3\nComponents: main\n")
    (parts / "d.disabled").write_text("deb http://d.example/ s4 main\n")
    assert [archive.suite for archive in host_archives(tmp_path)] == ["s1", "s2", "s3"]
    assert host_archives(tmp_path / "absent") == []


def test_a_suite_comes_from_its_own_line_or_from_the_mirror_of_the_hosts_release() -> None:
    """Security suites have a mirror of their own; third-party archives are never chosen."""
    other = Archive("http://other.example/", "nodistro", ("main",))
    main = Archive("http://m.example/debian", "bookworm", ("main",))
    security = Archive("http://m.example/debian-security", "bookworm-security", ("main",))
    newer = Archive("http://n.example/debian", "trixie", ("main",))
    host = {"VERSION_CODENAME": "bookworm"}
    assert archive_for("trixie", [other, main, security], host) == main
    assert archive_for("trixie-security", [other, main, security], host) == security
    assert archive_for("trixie", [main, newer], host) == newer
    with pytest.raises(PackageError, match="no archive for trixie"):
        archive_for("trixie", [other], host)


def test_release_of_a_suite_is_the_suite_without_its_pocket() -> None:
    """Backports, updates and security belong to the release they are named after."""
    assert [release_of(s) for s in ("trixie", "trixie-backports", "trixie-backports-sloppy")] == [
        "trixie"
    ] * 3
