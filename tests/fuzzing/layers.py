"""What a hostile layer may do: be refused in a sentence, or become a ramdisk of the size it was said to have.

Within bounds: what it unpacks to, how many names it has, how long its names wind.
"""

import gzip
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile, gettempdir

from cloister.build.content import BuildError, Region
from cloister.build.layers import apply_layer, unpack_archive
from cloister.build.ramdisk import customer_ramdisk
from cloister.build.tree import Limits, Tree
from simulators.image_sources import member, sample_layers, tar_of

LIMITS = Limits(entries=500, size=1 << 20)
BLOCK = 512
MOST = LIMITS.size + (LIMITS.entries + 50) * (128 + 2 * 4096)
"""Bytes of a ramdisk: what layers unpack to, and for each name its header, its path and a link's target."""


def try_input(data: bytes) -> None:
    """Build a ramdisk from two layers made of the bytes; raises whatever is no BuildError."""
    if not data:
        return
    first, rest = data[0], data[1:]
    if first & 1:  # a checksum is no obstacle to an attacker
        rest = b"".join(with_checksum(rest[at : at + BLOCK]) for at in range(0, len(rest), BLOCK))
    if first & 2:
        rest = gzip.compress(rest, 1)
    tree = Tree("the image", LIMITS)
    try:
        with ExitStack() as held:
            for _ in range(1 + (first >> 2 & 1)):
                file = held.enter_context(TemporaryFile())
                file.write(rest)
                file.flush()
                stored = Region(file, 0, len(rest), "layer")
                layer = unpack_archive(stored, Path(gettempdir()), LIMITS, held, lambda *_: None)
                apply_layer(tree, layer, LIMITS)
            archive = customer_ramdisk(tree.root, ["a"], [])
            written = sum(map(len, archive.chunks()))
            assert written == archive.size, (written, archive.size)
            assert written <= MOST, written
    except BuildError as error:
        refuse_lines(str(error))


def refuse_lines(sentence: str) -> None:
    """Insist on one line, whatever names the bytes made up."""
    assert "\n" not in sentence, sentence


def with_checksum(block: bytes) -> bytes:
    """Return a whole block as a header whose checksum is right; zeros end an archive and stay."""
    if len(block) < BLOCK or not any(block):
        return block
    return block[:148] + b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:])) + block[156:]


def seeds() -> Iterator[bytes]:
    """Yield inputs to begin with: every kind of member, every kind of packing."""
    kinds = [
        member("d/", tarfile.DIRTYPE, mode=0o700, mtime=5),
        member("d/f", body=bytes(range(250)) * 3, uid=3_000_000_000),
        member("d/" + "n" * 200, body=b"1"),
        member("link", tarfile.SYMTYPE, linkname="/d/../../d"),
        member("hard", tarfile.LNKTYPE, linkname="d/f"),
        member("link/through", body=b"2", pax_headers={"mtime": "1.5"}),
        member("tty", tarfile.CHRTYPE, devmajor=5, devminor=1),
        member("pipe", tarfile.FIFOTYPE),
        member("etc/hosts", body=b"3"),
        member("d/.wh.f"),
        member("d/.wh..wh..opq"),
        member("holes", body=b"abcd", pax_headers={"GNU.sparse.map": "2,2,8,2", "GNU.sparse.size": "20"}),
    ]
    archives = [tar_of(kinds), tar_of(kinds[:10], tarfile.GNU_FORMAT), *sample_layers()]
    archives += [tar_of([item]) for item in kinds]
    for number, archive in enumerate(archives):
        yield bytes([number % 8]) + archive
        yield b"\1" + archive[: 3 * BLOCK]
    yield b"\0" + gzip.compress(archives[0], mtime=0)
