"""What ``apt-get --print-uris`` prints, and nothing looser."""

import pytest

from cloister.packages import Package, PackageError, parse_uri_line

DIGEST = "ab" * 32


def test_a_line_becomes_a_package_pinned_to_its_bytes() -> None:
    """Epoch and tilde are decoded from the file's name."""
    uri = "http://m.example/debian/pool/main/q/qemu/qemu-system-x86_11.1.3%2bds-1%7ebpo13%2b1_amd64.deb"
    line = f"'{uri}' qemu-system-x86_1%3a11.1.3+ds-1~bpo13+1_amd64.deb 10377056 SHA256:{DIGEST}\n"
    assert parse_uri_line(line) == Package(
        name="qemu-system-x86",
        version="1:11.1.3+ds-1~bpo13+1",
        architecture="amd64",
        uri=uri,
        filename="qemu-system-x86_1%3a11.1.3+ds-1~bpo13+1_amd64.deb",
        size=10377056,
        sha256=DIGEST,
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Reading package lists...",
        f"'http://m.example/x.deb' ../../etc/passwd 1 SHA256:{DIGEST}",
        f"'http://m.example/x.deb' a_1_amd64.deb one SHA256:{DIGEST}",
        f"'http://m.example/x.deb' sub/a_1_amd64.deb 1 SHA256:{DIGEST}",
        f"'http://m.example/x.deb' a_1_amd64.deb 1 MD5Sum:{'0' * 32}",
        "'http://m.example/x.deb' a_1_amd64.deb 1 SHA256:short",
        "'http://m.example/x.deb' a_1_amd64.deb 1 ",
    ],
)
def test_a_line_without_name_size_or_strong_digest_is_refused(line: str) -> None:
    """Nothing is fetched that is not pinned by SHA-256, and no name leaves the cache's directory."""
    with pytest.raises(PackageError):
        parse_uri_line(line)
