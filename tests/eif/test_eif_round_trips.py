"""What an image may hold survives writing and reading; what is changed is refused or means the same."""

import io
import struct
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cloister.eif import (
    BuildMetadata,
    EifError,
    EifHeader,
    EifWriter,
    Image,
    ImageMetadata,
    SectionHeader,
    SectionSource,
    SectionType,
    SignatureError,
    SignatureSection,
    sign_pcr0,
)
from simulators.crafted_images import sealed
from simulators.damage import damaged
from simulators.signing_keys import self_signed

HEADER_SIZE = 548
u64 = st.integers(0, 2**64 - 1)
architectures = st.sampled_from(["x86_64", "aarch64"])


@st.composite
def headers(draw: st.DrawFn) -> EifHeader:
    """Return any header: the reader judges its tables only against a file."""
    tables = draw(st.lists(st.tuples(u64, u64), min_size=1, max_size=32))
    offsets, sizes = zip(*tables, strict=True)
    crc32 = draw(st.integers(0, 2**32 - 1))
    return EifHeader(draw(architectures), draw(u64), draw(u64), offsets, sizes, crc32)


def one_line(error: Exception) -> None:
    assert "\n" not in str(error)


@given(headers())
def test_header_round_trip(header: EifHeader) -> None:
    """Every field of a header comes back, and has the one encoding of 548 bytes."""
    data = header.to_bytes()
    assert len(data) == HEADER_SIZE
    assert EifHeader.from_bytes(data) == header


@given(st.data())
def test_damaged_header_is_refused_or_is_another_header(data: st.DataObject) -> None:
    """No two headers are read alike: what is accepted is encoded to the very bytes that were read."""
    changed = data.draw(damaged(data.draw(headers()).to_bytes(), hot=28))
    try:
        header = EifHeader.from_bytes(changed)
    except EifError as error:
        one_line(error)
    else:
        assert header.to_bytes() == changed[:HEADER_SIZE]


@given(st.integers(0, 2**16 - 1), u64, st.data())
def test_section_header_round_trip(kind: int, size: int, data: st.DataObject) -> None:
    """So it is with the twelve bytes before a section."""
    header = SectionHeader(kind, size)
    assert SectionHeader.from_bytes(header.to_bytes()) == header
    changed = data.draw(damaged(header.to_bytes()))
    try:
        assert SectionHeader.from_bytes(changed).to_bytes() == changed
    except EifError as error:
        one_line(error)


text = st.text(st.characters(codec="utf-8"), max_size=12)
signatures = st.builds(SignatureSection, st.binary(max_size=40), st.binary(max_size=40))
metadata = st.builds(
    ImageMetadata, text, text, st.builds(BuildMetadata, text, text, text, text, text), st.none() | text
)
cmdlines = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60).map(str.encode)
Sections = list[tuple[SectionType, bytes]]


@st.composite
def section_lists(draw: st.DrawFn) -> Sections:
    """Return sections in any order that the format allows: metadata and ramdisks as they come."""
    customers = st.binary(max_size=60).map(lambda payload: (SectionType.RAMDISK, payload))
    middle = draw(st.lists(customers, min_size=1, max_size=28))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(middle)))
        middle.insert(place, (SectionType.METADATA, draw(metadata).to_bytes()))
    end = [(SectionType.SIGNATURE, draw(signatures).to_bytes())] if draw(st.booleans()) else []
    kernel = draw(st.binary(min_size=1, max_size=60))
    return [(SectionType.KERNEL, kernel), (SectionType.CMDLINE, draw(cmdlines)), *middle, *end]


def written(sections: Sections, **fields: Any) -> bytes:
    out = io.BytesIO()
    writer = EifWriter(out, **fields)
    for kind, payload in sections:
        writer.add(SectionSource.of(kind, payload))
    assert writer.seal() == len(out.getvalue())
    return out.getvalue()


def written_again(image: Image) -> bytes:
    return written(
        [(section.kind, bytes(section.payload)) for section in image.sections],
        architecture=image.architecture,
        default_memory=image.default_memory,
        default_cpus=image.default_cpus,
    )


@given(section_lists(), architectures, u64, u64)
def test_sections_round_trip(sections: Sections, architecture: str, memory: int, cpus: int) -> None:
    """Sections come back in their order, each where its table says, and are written to the same bytes."""
    data = written(sections, architecture=architecture, default_memory=memory, default_cpus=cpus)
    image = Image.from_buffer(data)
    assert [(section.kind, bytes(section.payload)) for section in image.sections] == sections
    assert (image.architecture, image.default_memory, image.default_cpus) == (architecture, memory, cpus)
    assert tuple(section.offset for section in image.sections) == image.header.offsets
    assert tuple(len(section.payload) for section in image.sections) == image.header.sizes
    payloads = dict(sections)
    assert (image.signature is None) == (SectionType.SIGNATURE not in payloads)
    if image.signature is not None:
        assert image.signature.to_bytes() == payloads[SectionType.SIGNATURE]
    if image.metadata is not None:
        assert image.metadata.to_bytes() == payloads[SectionType.METADATA]
    assert written_again(image) == data


@given(st.data())
def test_damaged_image_is_refused_or_is_another_image(data: st.DataObject) -> None:
    """With its checksum put right a changed image is refused, or is what our writer makes of its parts."""
    changed = data.draw(damaged(written(data.draw(section_lists())), hot=700))
    try:
        image = Image.from_buffer(sealed(changed) if len(changed) >= HEADER_SIZE else changed)
    except EifError as error:
        one_line(error)
    else:
        assert written_again(image) == sealed(changed)


@given(st.data())
def test_leniency_never_reads_something_else(data: st.DataObject) -> None:
    """What any of the reader's settings accepts holds the same bytes once it is written correctly."""
    changed = data.draw(damaged(written(data.draw(section_lists())), hot=700))
    lenient: list[dict[str, Any]] = [
        {"check_crc": False},
        {"check_crc": False, "check_signature_size": False},
    ]
    for settings in lenient:
        try:
            image = Image.from_buffer(changed, **settings)
        except EifError as error:
            one_line(error)
            continue
        end = HEADER_SIZE
        for section in image.sections:
            size = len(section.payload)
            assert section.offset == end
            assert changed[end : end + 12] == struct.pack(">HHQ", section.kind, 0, size)
            assert changed[end + 12 : end + 12 + size] == section.payload
            end += 12 + size
        assert end == len(changed)
        right = Image.from_buffer(written_again(image))
        assert [section.payload for section in right.sections] == [it.payload for it in image.sections]


CURVES = {
    curve.name: ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
}
CERTIFICATES = {name: self_signed(key).public_bytes(Encoding.PEM) for name, key in CURVES.items()}
ALGORITHMS = {"secp256r1": -7, "secp384r1": -35, "secp521r1": -36}  # RFC 9053, table 1
registers = st.binary(min_size=48, max_size=48)


@pytest.mark.parametrize("curve", CURVES)
@given(pcr0=registers)
def test_signature_round_trip(curve: str, pcr0: bytes) -> None:
    """A signature of each curve comes back and verifies, and has the bytes that AWS's encoder gives.

    Serde's: arrays of integers for bytes, keys in the order of the structures' fields (nitro-tools 2.3);
    encoded here by another CBOR library.
    """
    section = sign_pcr0(pcr0, CERTIFICATES[curve], CURVES[curve])
    data = section.to_bytes()
    assert SignatureSection.from_bytes(data) == section
    section.verify(pcr0)
    protected, unprotected, payload, signature = cbor2.loads(section.cose)
    assert protected == cbor2.dumps({1: ALGORITHMS[curve]})
    assert unprotected == {}
    assert payload == cbor2.dumps({"register_index": 0, "register_value": list(pcr0)})
    assert len(signature) == 2 * -(-CURVES[curve].key_size // 8)
    assert section.cose == cbor2.dumps([protected, {}, payload, signature])
    parts = {"signing_certificate": list(CERTIFICATES[curve]), "signature": list(section.cose)}
    assert data == cbor2.dumps([parts])


SIGNED = {name: sign_pcr0(bytes(48), CERTIFICATES[name], CURVES[name]) for name in CURVES}


@pytest.mark.parametrize("curve", CURVES)
@given(data=st.data())
def test_damaged_signature_section_is_refused_or_means_the_same(curve: str, data: st.DataObject) -> None:
    """A changed section that still verifies carries the genuine certificate and the genuine payload.

    What may change unnoticed is what no signature covers: text around the certificate, the unprotected map.
    """
    genuine = SIGNED[curve]
    changed = data.draw(damaged(genuine.to_bytes()))
    try:
        section = SignatureSection.from_bytes(changed)
        section.verify(bytes(48))
    except SignatureError as error:
        one_line(error)
    else:
        assert SignatureSection.from_bytes(section.to_bytes()) == section
        assert section.certificate.public_key() == genuine.certificate.public_key()


@pytest.mark.parametrize("curve", CURVES)
@given(data=st.data())
def test_damaged_envelope_is_refused_or_means_the_same(curve: str, data: st.DataObject) -> None:
    """So it is with a change inside the COSE_Sign1: header and payload that verify are the genuine ones."""
    genuine = SIGNED[curve]
    section = SignatureSection(genuine.certificate_pem, data.draw(damaged(genuine.cose, hot=12)))
    try:
        section.verify(bytes(48))
    except SignatureError as error:
        one_line(error)
    else:
        untagged = section.cose.removeprefix(b"\xd2")
        before, after = cbor2.loads(genuine.cose), cbor2.loads(untagged)
        assert (after[0], after[2]) == (before[0], before[2])
