"""Measurements against the rule computed naively from the section payloads."""

import hashlib
import io
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cloister.eif import Image, SectionSource, SectionType, sign_pcr0, write_eif
from cloister.measure import check_signature, measure
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
