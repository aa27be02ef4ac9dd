"""Signing an image that stands in a file, and reading one from there.

Where the key is, is the signer's affair: ``signers`` has one for each kind of place.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cloister.build.content import open_region
from cloister.build.output import atomic_output
from cloister.eif import (
    EifWriter,
    Image,
    SectionSource,
    SectionType,
    SignatureSection,
)
from cloister.measure import Measurements, measure


class Signer(Protocol):
    """Someone who can sign a PCR0."""

    def sign(self, pcr0: bytes) -> SignatureSection:
        """Return the section; raises SignatureError."""


def map_image(path: Path, *, check_crc: bool = True, check_signature_size: bool = True) -> Image:
    """Read an image without copying it, however large; the file must not be cut short while it is used.

    What is not to be checked is Image's affair. Raises BuildError when there is no such file, EifError when
    it is no image.
    """
    file, region = open_region(path)
    with file:
        return image_of(
            file.fileno(), region.size, check_crc=check_crc, check_signature_size=check_signature_size
        )


def image_of(
    descriptor: int, size: int, *, check_crc: bool = True, check_signature_size: bool = True
) -> Image:
    """Read an image from an open file of ``size`` bytes; raises EifError."""
    view = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)) if size else memoryview(b"")
    return Image.from_buffer(view, check_crc=check_crc, check_signature_size=check_signature_size)


def sign_image(path: Path, signer: Signer) -> Measurements:
    """Sign an image, or sign it anew; PCR0 to 2 stay. Raises EifError or BuildError, leaving it as it was.

    Another file takes its place at once, of the same owner and mode; a symbolic link goes on pointing there.
    """
    image = map_image(path, check_signature_size=False)
    path = path.resolve()
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
        status = path.stat()
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            with suppress(PermissionError):  # who may not give it away keeps it
                os.fchown(out.fileno(), status.st_uid, status.st_gid)
        os.fchmod(out.fileno(), status.st_mode & 0o777)
        return measure(image_of(out.fileno(), size))
