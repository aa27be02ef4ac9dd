"""Images as files, mapped instead of read; they must not be cut short while a command works on them."""

import mmap
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from cloister.build import BuildError, Progress, map_image, measure_image, open_region
from cloister.cpio import expand, is_compressed
from cloister.eif import Image
from cloister.errors import CloisterError
from cloister.measure import Measurements

TROUBLE: Final = 2
"""Exit code of commands whose 1 is an answer: a file could not be read."""
MAX_EXPANDED: Final = 4 << 30
"""Bytes that a compressed ramdisk may unpack to, in a file of $TMPDIR that has no name."""


def map_file(path: Path) -> memoryview:
    """Return a file's bytes without reading them, whatever they are; raises FileError."""
    file, region = open_region(path)
    with file:
        if not region.size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), region.size, access=mmap.ACCESS_READ))


def map_told_image(path: Path) -> Image:
    """Read an image to be told about, also one that nitro-cli signed anew, with a note; raises as map_image.

    Its header has an old size of the signature, which nothing that is measured or told depends on.
    """
    image = map_image(path, check_signature_size=False)
    _note_stale_size(path, image)
    return image


def measure_told_image(path: Path, progress: Progress | None) -> tuple[Image, Measurements]:
    """Read an image to be told about, and measure it in the same pass; raises as measure_image."""
    image, measurements = measure_image(path, check_signature_size=False, progress=progress)
    _note_stale_size(path, image)
    return image, measurements


def _note_stale_size(path: Path, image: Image) -> None:
    if image.stale_signature_size is not None:
        note(
            f"{path}: the header says the signature has {image.stale_signature_size} bytes, but it has "
            f"{len(image.sections[-1].payload)}, as nitro-cli leaves it when it signs anew; no enclave "
            "starts from this file here until 'nitro-cli sign-eif' of this project signs it."
        )


def expand_ramdisk(ramdisk: memoryview) -> memoryview:
    """Return a ramdisk with what is compressed in it unpacked; raises CpioError or BuildError."""
    if not is_compressed(ramdisk):
        return ramdisk
    try:
        with TemporaryFile() as file:
            for chunk in expand(ramdisk, MAX_EXPANDED):
                file.write(chunk)
            file.flush()
            size = file.tell()
            return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")
    except OSError as error:
        raise BuildError(
            f"A compressed ramdisk cannot be unpacked to a temporary file: {error.strerror}; "
            "set TMPDIR to a directory with room for it."
        ) from error


def note(sentence: str) -> None:
    """Say on standard error what is worth knowing, or wrong."""
    with suppress(OSError):
        print(f"cloister: {sentence}", file=sys.stderr, flush=True)


def tell_trouble(error: CloisterError) -> int:
    """Say on standard error what is wrong, and return the exit code for it."""
    note(str(error))
    return TROUBLE
