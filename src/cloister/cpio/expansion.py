"""Ramdisks as if nothing in them were compressed; pure, within bounds, a piece at a time.

The kernel takes archives one after the other, compressed or not, in any mixture, and each compressed stream
holds whole archives (init/initramfs.c, ``unpack_to_rootfs`` and ``flush_buffer``). AWS's tools do not
compress; other builders do.
"""

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Final

from cloister.cpio.reader import CompressedError, CpioError, compression_of, read_cpio
from cloister.mapped import pieces

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Expand = Callable[[memoryview], memoryview]
"""Gives a ramdisk with everything in it unpacked, or the same one where nothing is compressed."""

WINDOW_LOG: Final = 27
"""How far a stream may refer back, and so the memory of its decoder: 2^27 bytes, what Linux's zstd allows."""
MAX_STREAMS: Final = 1000
"""In one ramdisk, which usually has one: a decoder's making takes time, and nine bytes are a stream."""
_PIECE: Final = 1 << 16
_FIRST_PIECE: Final = 1 << 10
"""Small at first: what is read beyond a short stream is read again, and there may be many of them."""


def as_it_is(ramdisk: memoryview) -> memoryview:
    """Unpack nothing."""
    return ramdisk


def is_compressed(ramdisk: memoryview) -> bool:
    """Whether anything in a ramdisk is compressed."""
    return _next_stream(ramdisk, 0) is not None


def expand(ramdisk: memoryview, most: int) -> Iterator[bytes | memoryview]:
    """Yield the ramdisk with every compressed stream replaced by what it holds, at most ``most`` bytes.

    Raises CpioError where a stream is damaged, and CompressedError where it is of another kind than gzip,
    bzip2, xz, lzma and zstd, or too large, or one of too many; the offsets are the ramdisk's.
    """
    position = written = streams = 0
    while position < len(ramdisk):
        # A header stands at a multiple of four, counted in the ramdisk. Where a stream ends without its
        # trailer nothing more is unpacked: no reader takes zeros for the next header.
        gap = (position - written) % 4 + (4 if streams else 0)
        yield bytes(gap)
        written += gap
        start = _next_stream(ramdisk, position)
        end = len(ramdisk) if start is None else start
        yield from pieces(ramdisk[position:end])
        written += end - position
        if start is None:
            return
        streams += 1
        if streams > MAX_STREAMS:
            raise CompressedError(f"There are more than {MAX_STREAMS} compressed archives.", start)
        yield bytes(-written % 4)  # and as counted in the stream
        written += -written % 4
        size, position = yield from _stream(ramdisk, start, most - written)
        written += size


def _next_stream(ramdisk: memoryview, position: int) -> int | None:
    """Return where the next compressed stream begins; None also where the ramdisk is damaged before one."""
    try:
        for _ in read_cpio(ramdisk, position):
            pass
    except CompressedError as error:
        return error.offset
    except CpioError:
        pass
    return None


def _stream(ramdisk: memoryview, start: int, most: int) -> Generator[bytes, None, tuple[int, int]]:
    """Yield what a stream holds; return how much that was, and where the stream ends."""
    name = compression_of(ramdisk[start:])
    decoder, position, size, step = _decoder(name, start), start, 0, _FIRST_PIECE
    try:
        while not decoder.eof:
            piece = bytes(ramdisk[position : position + step]) if decoder.needs_input else b""
            chunk = decoder.decompress(piece, max_length=_PIECE)
            position, step, size = position + len(piece), min(2 * step, _PIECE), size + len(chunk)
            if size > most:
                raise CompressedError(
                    f"What is compressed with {name} from byte {start} on is too large to be examined.", start
                )
            if not chunk and not piece and not decoder.eof:
                raise CpioError(f"What is compressed with {name} from byte {start} on is cut short.", start)
            yield chunk
    except (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, ValueError) as error:
        raise CpioError(f"What is compressed with {name} from byte {start} on is damaged.", start) from error
    return size, position - len(decoder.unused_data)


class _GzipDecompressor:
    """``zlib``'s decompressor with the methods that the others have."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


_Decoder = _GzipDecompressor | bz2.BZ2Decompressor | lzma.LZMADecompressor | zstd.ZstdDecompressor


def _decoder(name: str | None, start: int) -> _Decoder:
    match name:
        case "gzip":
            return _GzipDecompressor()
        case "bzip2":
            return bz2.BZ2Decompressor()
        case "xz" | "lzma":
            return lzma.LZMADecompressor(memlimit=1 << WINDOW_LOG)
        case "zstd":
            options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
            return zstd.ZstdDecompressor(options=options)
    raise CompressedError(
        f"From byte {start} on the ramdisk is compressed with {name}, which is not opened here.", start
    )
