"""Signing an image that stands in a file, and reading one from there.

Where the key is, is the signer's affair: ``signers`` has one for each kind of place.
"""

import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

from cloister.build.content import open_region
from cloister.build.layers import Progress
from cloister.build.output import atomic_output, check_space
from cloister.eif import (
    EifWriter,
    Image,
    SectionSource,
    SectionType,
    SignatureSection,
)
from cloister.measure import Measurements, Measuring
from cloister.pcrs import measure_bytes


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
        return Image.from_buffer(
            _mapped(file, region.size), check_crc=check_crc, check_signature_size=check_signature_size
        )


def measure_image(
    path: Path,
    *,
    check_crc: bool = True,
    check_signature_size: bool = True,
    progress: Progress | None = None,
) -> tuple[Image, Measurements]:
    """Read an image as ``map_image`` does, and measure it in the same pass.

    Raises what ``map_image`` raises, and SignatureError when a signing certificate cannot be read.
    """
    file, region = open_region(path)
    with file, Measuring(_passed(progress, f"measuring {path.name}", region.size)) as measuring:
        image = Image.from_buffer(
            _mapped(file, region.size),
            check_crc=check_crc,
            check_signature_size=check_signature_size,
            tap=measuring,
        )
        return image, measuring.finish(image.signature)


def sign_image(path: Path, signer: Signer, *, progress: Progress | None = None) -> Measurements:
    """Sign an image, or sign it anew; PCR0 to 2 stay. Raises EifError or BuildError, leaving it as it was.

    Another file takes its place at once, of the same owner and mode; a symbolic link goes on pointing there.
    What is signed is what is copied, whatever happens to the old file meanwhile.
    """
    image = map_image(path, check_signature_size=False)
    path = path.resolve()
    check_space(path.parent, image.size, "The signed image")
    passed = _passed(progress, f"copying {path.name}", image.size)
    with atomic_output(path) as out, Measuring(passed) as measuring:
        writer = EifWriter(
            out,
            architecture=image.architecture,
            default_memory=image.default_memory,
            default_cpus=image.default_cpus,
            tap=measuring,
        )
        for old in image.sections:
            if old.kind is not SectionType.SIGNATURE:
                writer.add(SectionSource.of(old.kind, old.payload))
        measurements = add_signature(out, writer, measuring.finish(None), signer)
        status = path.stat()
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            with suppress(PermissionError):  # who may not give it away keeps it
                os.fchown(out.fileno(), status.st_uid, status.st_gid)
        os.fchmod(out.fileno(), status.st_mode & 0o777)
    return measurements


def add_signature(
    out: BinaryIO, writer: EifWriter, measurements: Measurements, signer: Signer
) -> Measurements:
    """Sign what was written and measured, and return what it measures now; raises SignatureError."""
    signature = signer.sign(measurements.pcr0)
    writer.add(SectionSource.of(SectionType.SIGNATURE, signature.to_bytes()))
    check_written(out, writer)
    return replace(measurements, pcr8=measure_bytes(signature.certificate_der))


def check_written(out: BinaryIO, writer: EifWriter) -> None:
    """Seal an image and let the strict reader judge its structure; raises EifError.

    The payloads are not read again: what was measured and checked is what was handed to the file.
    """
    size = writer.seal()
    Image.from_buffer(_mapped(out, size), crc32=writer.crc32)


def _passed(progress: Progress | None, what: str, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(what, done, total)


def _mapped(file: BinaryIO, size: int) -> memoryview:
    return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)) if size else memoryview(b"")
