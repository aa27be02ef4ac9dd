"""A well-formed image of a few kilobytes, which nothing boots."""

from pathlib import Path

from cloister.eif import BuildMetadata, ImageMetadata, SectionSource, SectionType, write_eif

_METADATA = ImageMetadata("small", "1", BuildMetadata("1970-01-01T00:00:00+00:00", "test", "1"))


def write_small_image(path: Path) -> Path:
    """Write an unsigned image."""
    sections = [
        (SectionType.KERNEL, bytes(range(256)) * 8),
        (SectionType.CMDLINE, b"quiet"),
        (SectionType.METADATA, _METADATA.to_bytes()),
        (SectionType.RAMDISK, b"boot" * 700),
        (SectionType.RAMDISK, b"application" * 900),
    ]
    with path.open("w+b") as file:
        write_eif(file, [SectionSource.of(kind, payload) for kind, payload in sections])
    return path
