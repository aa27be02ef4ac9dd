"""Measurements against the rule computed naively from the section payloads."""

import hashlib
import io
import weakref
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cloister.eif import (
    BuildMetadata,
    EifWriter,
    Image,
    ImageMetadata,
    SectionSource,
    SectionType,
    sign_pcr0,
    write_eif,
)
from cloister.measure import Measuring, check_signature, measure
from cloister.pcrs import measure_bytes
from simulators.signing_keys import self_signed

KERNEL, CMDLINE, RAMDISK, SIGNATURE = (
    SectionType.KERNEL,
    SectionType.CMDLINE,
    SectionType.RAMDISK,
    SectionType.SIGNATURE,
)


def image_of(*sections: tuple[SectionType, bytes]) -> Image:
    out = io.BytesIO()
    write_eif(out, [SectionSource.of(*section) for section in sections])
    return Image.from_buffer(out.getvalue())


def register(data: bytes) -> bytes:
    return hashlib.sha384(bytes(48) + hashlib.sha384(data).digest()).digest()


@given(
    st.binary(min_size=1, max_size=99),
    st.binary(max_size=9),
    st.lists(st.binary(max_size=99), min_size=1, max_size=4),
)
def test_registers_are_the_rule(kernel: bytes, tail: bytes, ramdisks: list[bytes]) -> None:
    """PCR0 is everything, PCR1 what boots, PCR2 the other ramdisks (nitro-tools 2.2)."""
    cmdline = tail.hex().encode()
    measured = measure(
        image_of((KERNEL, kernel), (CMDLINE, cmdline), *[(RAMDISK, disk) for disk in ramdisks])
    )
    assert measured.pcr0 == register(kernel + cmdline + b"".join(ramdisks))
    assert measured.pcr1 == register(kernel + cmdline + ramdisks[0])
    assert measured.pcr2 == register(b"".join(ramdisks[1:]))
    assert measured.pcr8 is None


def test_json_is_nitro_clis() -> None:
    """Keys, their order and the algorithm's spelling are nitro-cli's."""
    shown = measure(image_of((KERNEL, b"k"), (CMDLINE, b"c"), (RAMDISK, b"r"))).to_json()
    assert list(shown) == ["HashAlgorithm", "PCR0", "PCR1", "PCR2"]
    assert shown["HashAlgorithm"] == "Sha384 { ... }"
    assert shown["PCR2"] == register(b"").hex()


def test_signing_adds_pcr8_and_changes_nothing_else() -> None:
    """PCR8 is the certificate's; the signature section itself is not measured."""
    parts = [(KERNEL, b"k"), (CMDLINE, b"c"), (RAMDISK, b"r"), (RAMDISK, b"s")]
    plain = measure(image_of(*parts))
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = self_signed(key)
    section = sign_pcr0(plain.pcr0, certificate.public_bytes(Encoding.PEM), key)
    signed = image_of(*parts, (SIGNATURE, section.to_bytes()))
    measured = measure(signed)
    assert measured.registers() == plain.registers() | {
        8: measure_bytes(certificate.public_bytes(Encoding.DER))
    }
    check_signature(signed, measured, datetime.now(UTC))


def test_a_tap_measures_what_is_written_and_what_is_read() -> None:
    """Large sections, small chunks, empty ones: writer, reader and a later look give the same registers."""
    sizes = (1, 3 << 20, 0, 1 << 20, 999, (1 << 20) + 1)
    blocks = [bytes([number]) * size for number, size in enumerate(sizes)]
    metadata = ImageMetadata("n", "v", BuildMetadata("t", "b", "1"), None).to_bytes()
    parts = [(KERNEL, [b"k", b"", b"ernel"]), (CMDLINE, [b""]), (SectionType.METADATA, [metadata])]
    parts += [(RAMDISK, blocks), (RAMDISK, []), (RAMDISK, blocks)]
    out, seen = io.BytesIO(), list[int]()
    with Measuring() as writing:
        writer = EifWriter(out, tap=writing)
        for kind, chunks in parts:
            writer.add(SectionSource(kind, sum(map(len, chunks)), iter(chunks)))
        written = writing.finish(None)
        writer.seal()
    with Measuring(seen.append) as reading:
        image = Image.from_buffer(out.getvalue(), tap=reading)
        read = reading.finish(None)
    whole = b"".join(blocks)
    assert written == read == measure(image)
    assert written.pcr0 == register(b"kernel" + whole + whole)
    assert (written.pcr1, written.pcr2) == (register(b"kernel" + whole), register(whole))
    assert writer.crc32 == image.computed_crc32 == image.header.crc32
    assert seen == sorted(seen)
    assert seen[-1] == sum(len(section.payload) for section in image.sections)


def test_hashing_stays_a_few_pieces_behind() -> None:
    """Whoever brings pieces waits for the hashes, so that no image's bytes pile up."""
    alive = list[weakref.ref[memoryview]]()
    with Measuring() as measuring:
        for kind in (KERNEL, CMDLINE, RAMDISK, RAMDISK):
            measuring.begin(kind)
        for _ in range(200):
            piece = memoryview(bytes(1 << 16))
            alive.append(weakref.ref(piece))
            measuring.update(piece)
            del piece
            assert sum(reference() is not None for reference in alive) < 20
        assert measuring.finish(None).pcr2 == register(bytes(200 << 16))
