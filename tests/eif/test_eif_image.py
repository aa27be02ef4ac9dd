"""The enclave image file: writing and reading are inverses, and what is damaged or ambiguous is refused."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.eif import (
    BuildMetadata,
    ChecksumError,
    EifError,
    EifHeader,
    EifWriter,
    Image,
    ImageMetadata,
    SectionSource,
    SectionType,
    write_eif,
)

METADATA = ImageMetadata("hello", "1.0", BuildMetadata("1970-01-01T00:00:00+00:00", "cloister", "0.1"))
KERNEL, CMDLINE, RAMDISK = SectionType.KERNEL, SectionType.CMDLINE, SectionType.RAMDISK
SIGNATURE, META = SectionType.SIGNATURE, SectionType.METADATA
PLAIN = [
    (KERNEL, b"kernel"),
    (CMDLINE, b"quiet"),
    (META, METADATA.to_bytes()),
    (RAMDISK, b"boot"),
    (RAMDISK, b"app"),
]


def eif(sections: list[tuple[SectionType, bytes]]) -> bytes:
    out = io.BytesIO()
    size = write_eif(out, [SectionSource.of(kind, payload) for kind, payload in sections])
    assert size == len(out.getvalue())
    return out.getvalue()


def sealed(image: bytes | bytearray) -> bytes:
    """Put the right checksum on changed bytes, so that only the change itself can be refused."""
    return (
        bytes(image[:544])
        + struct.pack(">I", zlib.crc32(image[548:], zlib.crc32(image[:544])))
        + bytes(image[548:])
    )


def changed(offset: int, value: bytes) -> bytes:
    image = bytearray(eif(PLAIN))
    image[offset : offset + len(value)] = value
    return sealed(image)


def loose(sections: list[tuple[int, bytes]]) -> bytes:
    """Write any sections in any order, as our writer would refuse to."""
    body, offsets, sizes = b"", list[int](), list[int]()
    for kind, payload in sections:
        offsets.append(548 + len(body))
        sizes.append(len(payload))
        body += struct.pack(">HHQ", kind, 0, len(payload)) + payload
    return sealed(EifHeader("x86_64", 1, 2, tuple(offsets), tuple(sizes)).to_bytes() + body)


def test_what_is_written_is_read_back() -> None:
    """Every part of an image comes back as it went in."""
    image = Image.from_buffer(eif(PLAIN))
    assert (image.architecture, image.default_memory, image.default_cpus) == ("x86_64", 1 << 30, 2)
    assert (bytes(image.kernel), image.cmdline) == (b"kernel", "quiet")
    assert [bytes(ramdisk) for ramdisk in image.ramdisks] == [b"boot", b"app"]
    assert image.metadata == METADATA
    assert image.signature is None


def test_bytes_are_where_the_format_puts_them() -> None:
    """Offsets, counts and checksum stand in big-endian at AWS's places (nitro-tools 2.1)."""
    image = eif(PLAIN)
    assert image[:8] == b".eif\0\4\0\0"
    assert struct.unpack_from(">QQHH", image, 8) == (1 << 30, 2, 0, 5)
    offset = 548
    for index, (kind, payload) in enumerate(PLAIN):
        assert struct.unpack_from(">Q", image, 28 + 8 * index) == (offset,)
        assert struct.unpack_from(">Q", image, 284 + 8 * index) == (len(payload),)
        assert struct.unpack_from(">HHQ", image, offset) == (kind, 0, len(payload))
        offset += 12 + len(payload)
    assert image == sealed(image)


def test_payloads_are_views() -> None:
    """Reading copies no payload: the ramdisk is the buffer's own bytes."""
    buffer = eif(PLAIN)
    assert Image.from_buffer(buffer).ramdisks[0].obj is buffer


text = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | text, lambda inner: st.lists(inner, max_size=3)
)


@given(text, text, st.dictionaries(text, json_values, max_size=3), st.none() | text)
def test_metadata_round_trip(name: str, time: str, custom: dict[str, object], kit: str | None) -> None:
    """The metadata section's encoding and decoding are inverses."""
    metadata = ImageMetadata(name, "v", BuildMetadata(time, "tool", "1"), {"Id": name}, custom, kit)
    assert ImageMetadata.from_bytes(metadata.to_bytes()) == metadata


def test_metadata_has_its_keys_in_order() -> None:
    """The order in which a registry or a person wrote an object's keys does not reach the image."""
    one = {"Id": "x", "Config": {"b": 1, "Cmd": [{"z": 1, "a": None}], "A": 2}}
    two = {"Config": {"A": 2, "Cmd": [{"a": None, "z": 1}], "b": 1}, "Id": "x"}
    build = BuildMetadata("1970-01-01T00:00:00+00:00", "tool", "1")
    first, second = (ImageMetadata("n", "v", build, it, {"custom": it}).to_bytes() for it in (one, two))
    assert first == second
    assert b'"DockerInfo":{"Config":{"A":2,"Cmd":[{"a":null,"z":1}],"b":1},"Id":"x"},"CustomM' in first


def test_every_truncation_is_refused() -> None:
    """No proper prefix of an image is an image."""
    data = eif(PLAIN)
    for size in range(len(data)):
        with pytest.raises(EifError):
            Image.from_buffer(data[:size])


def test_every_flipped_bit_is_refused() -> None:
    """No single flipped bit goes unnoticed."""
    data = eif(PLAIN)
    for position in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(EifError):
            Image.from_buffer(bytes(damaged))


def test_checksum_can_be_left_to_the_caller() -> None:
    """A damaged payload is reported rather than refused when the caller asks for that."""
    data = bytearray(eif(PLAIN))
    data[-1] ^= 1
    with pytest.raises(ChecksumError):
        Image.from_buffer(bytes(data))
    assert not Image.from_buffer(bytes(data), check_crc=False).crc_ok


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(0, b"\x7fELF"), "not an EIF"),
        (changed(4, b"\0\3"), "version is 3"),
        (changed(6, b"\0\2"), "flags are 0x0002"),
        (changed(24, b"\0\1"), "must be zero"),
        (changed(540, b"\1"), "must be zero"),
        (changed(26, b"\0\0"), "announces 0 sections"),
        (changed(26, b"\0\x21"), "announces 33 sections"),
        (changed(26, b"\0\4"), "must be zero"),
        (changed(28 + 8 * 6, b"\1"), "must be zero"),
        (changed(28 + 15, b"\xff"), "puts section 2 at byte"),
        (changed(284 + 7, b"\7"), "6 bytes long by its own header but 7"),
        (changed(548 + 2, b"\1"), "flags are 0x0100"),
        (changed(548 + 1, b"\6"), "unknown type 6"),
        (changed(548 + 1, b"\0"), "unknown type 0"),
        (sealed(eif(PLAIN) + b"\0"), "1 bytes after its last section"),
        (b"", "shorter than"),
        (loose([(2, b"quiet"), (1, b"k"), (3, b"r")]), "expected a kernel and then a command line"),
        (loose([(1, b"k"), (2, b"q"), (1, b"k"), (3, b"r")]), "2 kernel sections"),
        (loose([(1, b"k"), (2, b"q"), (2, b"q"), (3, b"r")]), "2 cmdline sections"),
        (loose([(1, b"k"), (2, b"q"), (3, b"r"), (4, b"s"), (4, b"s")]), "2 signature sections"),
        (loose([(1, b"k"), (2, b"q"), (5, b"{}"), (5, b"{}"), (3, b"r")]), "2 metadata sections"),
        (loose([(1, b"k"), (2, b"q"), (4, b"s"), (3, b"r")]), "not its last section"),
        (loose([(1, b"k"), (2, b"q")]), "no ramdisk"),
        (loose([(1, b""), (2, b"q"), (3, b"r")]), "kernel section is empty"),
        (loose([(1, b"k"), (2, b"q\n"), (3, b"r")]), "control characters"),
        (loose([(1, b"k"), (2, b"\xff"), (3, b"r")]), "not ASCII"),
        (loose([(1, b"k"), (2, b"q" * 4097), (3, b"r")]), "4097 bytes"),
        (loose([(1, b"k"), (2, b"q"), (5, b"[" * 100_000), (3, b"r")]), "metadata is not JSON"),
        (loose([(1, b"k"), (2, b"q"), (5, b"[" * 65 + b"]" * 65), (3, b"r")]), "more than 64 deep"),
        (loose([(1, b"k"), (2, b"q"), (5, b"1"), (3, b"r")]), "the metadata is not an object"),
        (loose([(1, b"k"), (2, b"q"), (5, b'{"a":[NaN]}'), (3, b"r")]), "NaN is not a JSON number"),
        (loose([(1, b"k"), (2, b"q"), (5, b'{"a":-1e999}'), (3, b"r")]), "-1e999 is beyond what a number"),
        (loose([(1, b"k"), (2, b"q"), (5, b'{"a":"\\ud800"}'), (3, b"r")]), "surrogates not allowed"),
        (loose([(1, b"k"), (2, b"q"), (5, b"{}"), (3, b"r")]), "BuildMetadata is not an object"),
        (loose([(1, b"k"), (2, b"q"), (3, b"r"), (4, b"\xff")]), "not CBOR"),
    ],
)  # fmt: skip
def test_ambiguity_is_refused_in_one_sentence(data: bytes, message: str) -> None:
    """What two readers could take for two things is refused, though its checksum is right."""
    with pytest.raises(EifError, match=message) as refused:
        Image.from_buffer(data)
    assert "\n" not in str(refused.value)


def test_size_beyond_the_file_is_refused_without_allocating() -> None:
    """A section of 2^64 - 1 bytes is a truncated file, not an allocation."""
    image = bytearray(loose([(1, b"k"), (2, b"q"), (3, b"r")]))
    image[284 + 16 : 284 + 24] = image[-9:-1] = b"\xff" * 8
    with pytest.raises(EifError, match="needs 18446744073709551615 bytes"):
        Image.from_buffer(sealed(image))


@pytest.mark.parametrize("size", [2, 4])
def test_writer_refuses_a_source_of_another_length(size: int) -> None:
    """A source that gives more or less than it announced does not make an image."""
    with pytest.raises(EifError, match=f"its announced {size} bytes"):
        EifWriter(io.BytesIO()).add(SectionSource(RAMDISK, size, [b"a", b"bc"]))


def test_writer_refuses_what_the_reader_would() -> None:
    """The writer seals nothing that its reader would not accept."""
    with pytest.raises(EifError, match="no ramdisk"):
        eif([(KERNEL, b"k"), (CMDLINE, b"q")])
    with pytest.raises(EifError, match="more than 32 sections"):
        eif([(KERNEL, b"k"), (CMDLINE, b"q"), *[(RAMDISK, b"")] * 31])


def test_image_can_be_sealed_again_after_another_section() -> None:
    """Sealing, adding and sealing again gives the bytes of writing all at once."""
    out = io.BytesIO()
    writer = EifWriter(out)
    for kind, payload in PLAIN[:-1]:
        writer.add(SectionSource.of(kind, payload))
    writer.seal()
    writer.add(SectionSource.of(*PLAIN[-1]))
    writer.seal()
    assert out.getvalue() == eif(PLAIN)
