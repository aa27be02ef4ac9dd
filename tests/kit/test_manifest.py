"""A kit's manifest: canonical, strict, and the only thing its digest depends on."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.kit import KitError, KitManifest

HEX = "0123456789abcdef" * 4
FILES = dict.fromkeys(("cmdline", "init", "kernel", "kernel.config"), HEX)
MANIFEST = KitManifest(
    architecture="x86_64",
    kernel_version="6.12.1",
    source_package="linux-source-6.12",
    source_version="6.12.1-1",
    source_sha256=HEX,
    compiler="gcc 12",
    files=FILES,
)


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(["x86_64", "aarch64"]))
def test_writing_and_reading_are_inverse(version: str, compiler: str, architecture: str) -> None:
    """What is written is read back equal, whatever the texts hold."""
    manifest = replace(MANIFEST, kernel_version=version, compiler=compiler, architecture=architecture)
    again = KitManifest.from_bytes(manifest.to_bytes())
    assert again == manifest
    assert again.digest == manifest.digest


def test_the_digest_names_every_field() -> None:
    """Any change gives another kit."""
    changed = [
        replace(MANIFEST, kernel_version="6.12.2"),
        replace(MANIFEST, compiler="gcc 13"),
        replace(MANIFEST, source_sha256="0" * 64),
        replace(MANIFEST, files=FILES | {"init": "0" * 64}),
    ]
    assert len({MANIFEST.digest, *(manifest.digest for manifest in changed)}) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": True},
        {"architecture": "riscv64"},
        {"kernel_version": 6},
        {"files": {"kernel": HEX}},
        {"files": FILES | {"extra": HEX}},
        {"files": FILES | {"init": "../init"}},
        {"files": [1, 2]},
        {"files": None},
        {"surplus": "x"},
    ],
)
def test_a_manifest_of_another_shape_is_refused(change: dict[str, object]) -> None:
    """Unknown formats, fields, files and types are not guessed at."""
    fields = json.loads(MANIFEST.to_bytes()) | change
    text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(KitError):
        KitManifest.from_bytes(text)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b"[" * 5000, b'{"files":{}}'])
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    """Rubbish gives a KitError and nothing else."""
    with pytest.raises(KitError):
        KitManifest.from_bytes(text)


def test_another_spelling_of_the_same_manifest_is_refused() -> None:
    """One kit has one digest: spaces, order and duplicate keys are not tolerated."""
    text = MANIFEST.to_bytes()
    for other in (
        text.replace(b",", b", ", 1),
        text.rstrip(),
        text.replace(b'"format":1', b'"format":1,"format":1'),
    ):
        with pytest.raises(KitError):
            KitManifest.from_bytes(other)
