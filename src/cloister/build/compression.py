"""Compressed archives, unpacked in pieces of bounded size: gzip (RFC 1952) and zstd (RFC 8878)."""

import gzip
import sys
import zlib
from collections.abc import Iterator
from typing import Final

from cloister.build.content import CHUNK, BuildError, Region

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_WINDOW_LOG: Final = 27
"""Of a zstd frame: what the reference decoder allows unasked, 128 MiB of memory; images use 8 MiB or less."""
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_HEADER: Final = 18
"""Bytes of the longest frame header with its magic."""
_REFUSED: Final = {b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}


def is_compressed(archive: Region) -> bool:
    """Whether it has to be unpacked; raises BuildError for a compression that images do not use."""
    head = archive.read_at(0, 6)
    for magic, name in _REFUSED.items():
        if head.startswith(magic):
            raise BuildError(
                f"{archive.name} is compressed with {name}, which images are not: use gzip, zstd or none."
            )
    return head.startswith((_GZIP, _ZSTD))


def least_unpacked(archive: Region) -> int:
    """Return how many bytes an archive has at least, by its own account; 0 when it does not say.

    Only good for asking early whether there is room. gzip: the last member's size modulo 2^32 is at the end
    (RFC 1952, 2.3.1); zstd: the first frame's may be in its header (RFC 8878, 3.1.1.1.4).
    """
    head = archive.read_at(0, _ZSTD_HEADER)
    if head.startswith(_GZIP):
        return int.from_bytes(archive.read_at(max(archive.size - 4, 0), 4), "little")
    if not head.startswith(_ZSTD):
        return 0
    try:
        return zstd.get_frame_info(head).decompressed_size or 0
    except zstd.ZstdError:
        return 0


def decompressed(archive: Region) -> Iterator[bytes]:
    """Yield what is packed, at most 1 MiB at a time; raises BuildError when it is damaged or cut short."""
    packed = archive.stream()
    name = "gzip" if archive.read_at(0, 2) == _GZIP else "zstd"
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    unpacked: gzip.GzipFile | zstd.ZstdFile
    try:
        unpacked = gzip.GzipFile(fileobj=packed) if name == "gzip" else zstd.ZstdFile(packed, options=options)
        with unpacked:
            while chunk := unpacked.read(CHUNK):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as error:
        raise BuildError(f"{archive.name} is not valid {name}: {error}.") from error
