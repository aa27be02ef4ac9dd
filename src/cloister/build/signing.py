"""Signing an image that stands in a file, and reading one from there.

Where the key is, is the signer's affair: a PEM file now, other places behind the same protocol.
"""

import mmap
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cloister.build.content import open_region, read_bounded
from cloister.build.output import atomic_output
from cloister.eif import (
    EifWriter,
    Image,
    SectionSource,
    SectionType,
    SignatureError,
    SignatureSection,
    check_dates,
    load_signing_certificate,
    sign_pcr0,
)
from cloister.measure import Measurements, measure

_MAX_PEM: Final = 64 << 10


class Signer(Protocol):
    """Someone who can sign a PCR0."""

    def sign(self, pcr0: bytes) -> SignatureSection:
        """Return the section; raises SignatureError."""


@dataclass(frozen=True, slots=True, repr=False)
class PemSigner:
    """A certificate and a private key from files; it does not show itself in logs."""

    certificate_pem: bytes
    private_key: EllipticCurvePrivateKey

    @classmethod
    def load(cls, certificate: Path, private_key: Path, now: datetime) -> "PemSigner":
        """Read both and check that they can sign now; raises SignatureError or BuildError."""
        pem = read_bounded(certificate, _MAX_PEM)
        check_dates(load_signing_certificate(pem), now)
        try:
            key = load_pem_private_key(read_bounded(private_key, _MAX_PEM), password=None)
        except TypeError:
            raise SignatureError(
                f"The private key {private_key} is encrypted, which is not supported."
            ) from None
        except ValueError:
            raise SignatureError(f"The private key {private_key} is not a PEM private key.") from None
        if not isinstance(key, EllipticCurvePrivateKey):
            raise SignatureError(
                f"The private key {private_key} is not an elliptic-curve key (P-256, P-384 or P-521)."
            )
        return cls(pem, key)

    def sign(self, pcr0: bytes) -> SignatureSection:
        """Sign; raises SignatureError."""
        return sign_pcr0(pcr0, self.certificate_pem, self.private_key)


def map_image(path: Path, *, check_crc: bool = True) -> Image:
    """Read an image without copying it, however large; the file must not be cut short while it is used.

    Raises BuildError when there is no such file, EifError when it is no image.
    """
    file, region = open_region(path)
    with file:
        return image_of(file.fileno(), region.size, check_crc=check_crc)


def image_of(descriptor: int, size: int, *, check_crc: bool = True) -> Image:
    """Read an image from an open file of ``size`` bytes; raises EifError."""
    view = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)) if size else memoryview(b"")
    return Image.from_buffer(view, check_crc=check_crc)


def sign_image(path: Path, signer: Signer) -> Measurements:
    """Sign an image, or sign it anew; PCR0 to 2 stay. Raises EifError or BuildError, leaving it as it was."""
    image = map_image(path)
    section = signer.sign(measure(image).pcr0)
    with atomic_output(path) as out:
        writer = EifWriter(
            out,
            architecture=image.architecture,
            default_memory=image.default_memory,
            default_cpus=image.default_cpus,
        )
        for old in image.sections:
            if old.kind is not SectionType.SIGNATURE:
                writer.add(SectionSource.of(old.kind, old.payload))
        writer.add(SectionSource.of(SectionType.SIGNATURE, section.to_bytes()))
        size = writer.seal()
        os.fchmod(out.fileno(), path.stat().st_mode & 0o777)
        return measure(image_of(out.fileno(), size))
