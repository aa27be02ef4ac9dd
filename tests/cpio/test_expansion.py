"""Compressed ramdisks: unpacked as the kernel does, within bounds, or refused with the reason."""

import bz2
import gzip
import lzma
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.cpio import CompressedError, CpioError, expand, is_compressed, read_files
from simulators.crafted_images import archive, newc
from simulators.damage import damaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST = 1 << 20
FIRST = archive(newc(b"first", body=b"1"))
SECOND = archive(newc(b"second", body=b"2" * 70_000), newc(b"third"))
METHODS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstd.compress,
}


def expanded(ramdisk: bytes, most: int = MOST) -> bytes:
    return b"".join(expand(memoryview(ramdisk), most))


def names(ramdisk: bytes) -> list[bytes]:
    return [entry.name for entry in read_files(expanded(ramdisk))]


@pytest.mark.parametrize("method", METHODS)
def test_whatever_is_compressed_is_unpacked(method: str) -> None:
    """Alone, after a plain archive, before one and after zeros: the files are those that were packed."""
    packed = METHODS[method](SECOND)
    assert expanded(packed) == SECOND
    assert names(FIRST + packed) == [b"first", b"second", b"third"]
    aligned = packed + bytes(-len(packed) % 4)
    assert names(aligned + bytes(8) + FIRST + bytes(3) + packed) == [
        b"second", b"third", b"first", b"second", b"third",
    ]  # fmt: skip


def test_what_is_plain_stays_as_it_is() -> None:
    """Without a compressed stream nothing changes, and one can ask beforehand; damage is the reader's."""
    for ramdisk in (b"", FIRST, FIRST + bytes(8) + SECOND, FIRST + b"rest", FIRST[:50]):
        assert expanded(ramdisk) == ramdisk
        assert not is_compressed(memoryview(ramdisk))
    assert is_compressed(memoryview(FIRST + gzip.compress(SECOND)))


@pytest.mark.parametrize("method", METHODS)
def test_cut_and_damaged_streams_are_refused(method: str) -> None:
    """One sentence with the place, for every cut and a byte changed in the middle."""
    packed = METHODS[method](FIRST * 20)
    for size in range(6, len(packed)):
        with pytest.raises(CpioError, match=f"{method} from byte 0 on is (cut short|damaged)"):
            expanded(packed[:size])
    half = len(packed) // 2
    with pytest.raises(CpioError, match=r"from byte \d+ on is (damaged|cut short)|expected"):
        names(FIRST + packed[:half] + bytes([packed[half] ^ 255]) * 9 + packed[half + 9 :])


def test_bombs_are_refused() -> None:
    """What unpacks to more than is allowed is refused when that is reached, not when it is in memory."""
    bomb = gzip.compress(bytes(1 << 26))
    with pytest.raises(CompressedError, match=f"gzip from byte {len(FIRST)} on is too large"):
        expanded(FIRST + bomb)
    with pytest.raises(CompressedError, match="too large"):
        expanded(gzip.compress(bytes(1000)) * 20, most=9999)
    assert not any(expanded(gzip.compress(b"") * 1000))
    with pytest.raises(CompressedError, match="more than 1000 compressed archives"):
        expanded(gzip.compress(b"") * 1001)
    window = zstd.compress(bytes(1000), options={zstd.CompressionParameter.window_log: 30})
    assert len(expanded(window)) == 1000  # a frame that says its size needs no window
    stream = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
    with pytest.raises(CpioError, match="zstd from byte 0 on is damaged"):
        expanded(stream.compress(bytes(1000)) + stream.flush())


@pytest.mark.parametrize(("magic", "name"), [(b"\x02\x21\x4c\x18", "lz4"), (b"\x89LZO\0\r\n", "lzo")])
def test_what_cannot_be_opened_is_named(magic: bytes, name: str) -> None:
    """Methods that the kernel knows and this reader does not."""
    with pytest.raises(
        CompressedError, match=f"From byte {len(FIRST)} on .* compressed with {name}, which is not"
    ):
        expanded(FIRST + magic + bytes(90))


def test_a_stream_in_a_stream_is_not_opened() -> None:
    """The kernel takes it for junk, and it stays compressed for the reader."""
    with pytest.raises(CompressedError, match="compressed with gzip"):
        names(gzip.compress(gzip.compress(FIRST)))


def test_a_stream_ends_with_its_archive() -> None:
    """After a stream without its trailer the kernel reads nothing more, plain or compressed."""
    packed = gzip.compress(newc(b"open"))
    for rest in (FIRST, gzip.compress(FIRST)):
        ramdisk = packed + bytes(-len(packed) % 4) + rest
        with pytest.raises(CpioError, match="expected a header, 070701"):
            names(ramdisk)
    with pytest.raises(CpioError, match="without its trailer"):
        names(packed)


def test_a_plain_archive_keeps_its_place() -> None:
    """After a stream a header stands at a multiple of four, counted from the ramdisk's start."""
    packed = next(
        packed for level in range(1, 99) if len(packed := gzip.compress(archive(newc(b"x" * level)))) % 4
    )
    with pytest.raises(CpioError, match="multiple of 4"):
        names(packed + FIRST)
    assert names(packed + bytes(-len(packed) % 4) + FIRST)[1:] == [b"first"]


@given(st.sampled_from(sorted(METHODS)), st.data())
def test_damage_is_refused_or_unpacked(method: str, data: st.DataObject) -> None:
    """Whatever the bytes, unpacking ends within its bound, and raises nothing but CpioError."""
    changed = data.draw(damaged(FIRST + METHODS[method](FIRST * 3) + FIRST))
    size = 0
    try:
        for chunk in expand(memoryview(changed), 5000):
            size += len(chunk)
    except CpioError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    assert size <= 5000 + len(changed) + 100  # zeros after streams
