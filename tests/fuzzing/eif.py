"""What a hostile image may do: be refused in a sentence, or be one about which everything told is true.

True is: its sections tile the file, writing them again gives its bytes, its registers are those of the
specification (computed here anew), a signature that verifies does so for another library too, lint has an
error wherever the strict reader refuses, and diff finds a reason for every register that differs.
"""

import gzip
import hashlib
import io
import json
import struct
from typing import Any, NoReturn

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cloister.audit import Severity, compare, lint
from cloister.cli.image import ls
from cloister.cli.nitro.describe_eif import describe
from cloister.cpio import CpioError, read_cpio
from cloister.eif import (
    EifError,
    EifWriter,
    Image,
    ImageMetadata,
    SectionSource,
    SectionType,
    SignatureError,
    SignatureSection,
)
from cloister.measure import Measurements, Measuring, check_signature, measure
from fuzzing import eif_seeds
from fuzzing.eif_seeds import HEADER_SIZE, NOW, Parts, parts_of, rebuilt
from simulators.crafted_images import CMDLINE, KERNEL, RAMDISK, SIGNATURE, expanded, sealed

LENIENT: tuple[dict[str, Any], ...] = (
    {"check_crc": False},
    {"check_crc": False, "check_signature_size": False},
)
seeds = eif_seeds.seeds
_REFERENCE = Image.from_buffer(eif_seeds.signed_image(0))
_REFERENCE_PCRS = measure(_REFERENCE)
_HASHES = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
_REPAIR, _TABLES, _SEAL, _SIGN, _PACK = 1, 2, 4, 8, 64


def try_input(data: bytes) -> None:
    """Read the bytes in every way; the first one says what of them is put right beforehand."""
    if data:
        try_image(repaired(data[0], data[1:]))


def repaired(what: int, data: bytes) -> bytes:
    """Put right what an attacker would: magic and reserved fields, tables, signature, checksum."""
    if len(data) < HEADER_SIZE:
        return data
    if what & _REPAIR:
        data = (
            b".eif\0\4\0" + bytes([data[7] & 1]) + data[8:24] + b"\0\0" + data[26:540] + bytes(4) + data[544:]
        )
    if what & (_TABLES | _SIGN | _PACK):
        parts = parts_of(data)
        if what & _PACK and parts and parts[-1][0] == RAMDISK:
            parts[-1] = (RAMDISK, gzip.compress(parts[-1][1], 1, mtime=0))
        if what & _SIGN:
            parts = [part for part in parts if part[0] != SIGNATURE]
            parts.append((SIGNATURE, eif_seeds.signature_over(pcr0_of(parts), what >> 4 & 3)))
        data = rebuilt(data[:HEADER_SIZE], parts)
    return sealed(data) if what & _SEAL else data


def try_image(data: bytes) -> None:
    """Insist on what must be true of any bytes; raises whatever is no sentence."""
    findings = lint(memoryview(data), NOW, expand=expanded)
    for finding in findings.found:
        one_line(finding.where + finding.message)
    json.dumps([finding.to_json() for finding in findings.ordered()])
    image = image_or_none(data, {})
    if image is not None:
        assert written_again(image) == data
        assert all(Image.from_buffer(data, **settings) == image for settings in LENIENT)
        try_accepted(image, data)
        return
    assert findings.worst is Severity.ERROR
    for settings in LENIENT:
        image = image_or_none(data, settings)
        if image is not None:
            try_accepted(image, data)
            assert written_again(image) != data
            right = Image.from_buffer(written_again(image))
            assert [section.payload for section in right.sections] == [it.payload for it in image.sections]
            return


def image_or_none(data: bytes, settings: dict[str, Any]) -> Image | None:
    """Read with some settings, or be refused in a line."""
    try:
        return Image.from_buffer(data, **settings)
    except EifError as error:
        one_line(str(error))
        return None


def try_accepted(image: Image, data: bytes) -> None:
    """Insist on what must be true of an image."""
    parts = [(int(section.kind), bytes(section.payload)) for section in image.sections]
    assert parts == parts_of(data)
    assert b"".join(struct.pack(">HHQ", kind, 0, len(it)) + it for kind, it in parts) == data[HEADER_SIZE:]
    for ramdisk in image.ramdisks:
        try_ramdisk(ramdisk)
    if image.metadata is not None:
        assert ImageMetadata.from_bytes(image.metadata.to_bytes()) == image.metadata
    if image.signature is not None:
        assert SignatureSection.from_bytes(image.signature.to_bytes()) == image.signature
    try:
        measurements = measure(image)
    except SignatureError as error:
        one_line(str(error))
        return
    with Measuring() as measuring:  # while it is read, as the commands do
        Image.from_buffer(data, **LENIENT[-1], tap=measuring)
        assert measuring.finish(image.signature) == measurements
    check_registers(parts, measurements)
    try_telling(image, measurements)
    if image.signature is not None:
        try:
            check_signature(image, measurements, NOW)
        except SignatureError as error:
            one_line(str(error))
        else:
            check_again(image.signature, measurements.pcr0)


def try_ramdisk(ramdisk: memoryview) -> None:
    """List a ramdisk's files for people and programs."""
    try:
        inside, end = expanded(ramdisk), 0
        for item in read_cpio(inside):
            assert end <= item.offset <= len(inside)
            end = item.offset
        for number, entry in ls._entries((ramdisk,), None, expanded):
            one_line(ls._line(number, entry))
            json.dumps(ls._json(number, entry)).encode("ascii")
    except CpioError as error:
        one_line(str(error))


def try_telling(image: Image, measurements: Measurements) -> None:
    """Describe and compare."""
    try:
        told = json.dumps(describe(image, measurements))
        json.loads(told, parse_constant=no_number)
    except SignatureError as error:
        one_line(str(error))
    assert not list(compare(image, image, expand=expanded))
    found = list(compare(_REFERENCE, image, limit=5, expand=expanded))
    for difference in found:
        one_line(difference.where + difference.attribute)
        json.loads(json.dumps(difference.to_json()), parse_constant=no_number)
    named = {register for difference in found for register in difference.registers}
    before, after = _REFERENCE_PCRS.registers(), measurements.registers()
    assert {register for register in (0, 1, 2, 8) if before.get(register) != after.get(register)} <= named


def written_again(image: Image) -> bytes:
    """Return what our writer makes of an image's parts."""
    out = io.BytesIO()
    writer = EifWriter(
        out,
        architecture=image.architecture,
        default_memory=image.default_memory,
        default_cpus=image.default_cpus,
    )
    for section in image.sections:
        writer.add(SectionSource.of(SectionType(section.kind), section.payload))
    writer.seal()
    return out.getvalue()


def pcr(payloads: list[bytes]) -> bytes:
    """Return a register over some payloads (nitro-tools 2.2): 48 zeros extended by their hash."""
    return hashlib.sha384(bytes(48) + hashlib.sha384(b"".join(payloads)).digest()).digest()


def pcr0_of(parts: Parts) -> bytes:
    """Return the register over everything that is measured."""
    return pcr([payload for kind, payload in parts if kind in (KERNEL, CMDLINE, RAMDISK)])


def check_registers(parts: Parts, measurements: Measurements) -> None:
    """Compute the registers anew."""
    boot = [payload for kind, payload in parts if kind in (KERNEL, CMDLINE)]
    ramdisks = [payload for kind, payload in parts if kind == RAMDISK]
    assert measurements.pcr0 == pcr0_of(parts)
    assert measurements.pcr1 == pcr(boot + ramdisks[:1])
    assert measurements.pcr2 == pcr(ramdisks[1:])


def check_again(section: SignatureSection, pcr0: bytes) -> None:
    """Verify by another CBOR library and the curve alone."""
    protected, _, payload, signature = cbor2.loads(section.cose.removeprefix(b"\xd2"))
    assert payload == cbor2.dumps({"register_index": 0, "register_value": list(pcr0)})
    key = section.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_HASHES[key.curve.name]))


def one_line(sentence: str) -> None:
    """Insist on one line, whatever the bytes made up."""
    assert len(sentence.splitlines()) <= 1, sentence


def no_number(name: str) -> NoReturn:
    """Refuse what is no JSON."""
    raise AssertionError(name)
