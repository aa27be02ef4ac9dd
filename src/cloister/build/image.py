"""Building: a source and a guest kit become one enclave image, the same bytes for the same input.

The image is written once as a stream and measured as it passes; the one strict reader goes over its
structure, and only then it is signed and given its name. Spec: nitro-tools 2 and 3.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cloister.build.content import BuildError, encode_text, open_region
from cloister.build.layers import Progress
from cloister.build.output import atomic_output, check_output, check_space
from cloister.build.ramdisk import boot_ramdisk, customer_ramdisk
from cloister.build.signing import Signer, add_signature, check_written
from cloister.build.source import Source, SourceName, open_source
from cloister.build.tree import Limits, split_path
from cloister.eif import BuildMetadata, EifWriter, ImageMetadata, SectionSource, SectionType
from cloister.kit import Kit
from cloister.measure import Measurements, Measuring

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
"""Digits alone: what other tools take, buildah among them, must be what is taken here."""
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the user asks of an image beyond its source."""

    cmd: Sequence[str] | None = None
    """Replaces the image's CMD; for a bare root file system, the whole command."""
    env: Sequence[str] = ()
    """``NAME=VALUE``, over the image's own."""
    entrypoint: Sequence[str] | None = None
    """Replaces the image's ENTRYPOINT and drops its CMD; empty takes the ENTRYPOINT away."""
    workdir: str | None = None
    """Replaces the image's WORKDIR."""
    user: str | None = None
    """Replaces the image's USER."""
    name: str = ""
    version: str = ""
    custom: Any = None
    """JSON for the metadata section."""
    like_aws: bool = False
    """CMD wins over ENTRYPOINT, WORKDIR and USER are ignored: what AWS's build-enclave does."""
    build_time: datetime | None = None
    """Default: the image's creation, else 1970."""
    build_tool: str = "cloister"
    build_tool_version: str = "Unknown"


def build_image(
    source: str | Path,
    output: Path,
    *,
    kit: Kit,
    recipe: Recipe | None = None,
    signer: Signer | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Measurements:
    """Build an image; on failure no file is left. Raises BuildError, EifError or SignatureError."""
    recipe, limits = recipe or Recipe(), limits or Limits()
    progress = progress or (lambda _what, _done, _total: None)
    name = SourceName.parse(str(source))
    check_output(output)
    opened = open_source(
        name, architecture=kit.architecture, scratch=output.parent, limits=limits, progress=progress
    )
    with opened as found, ExitStack() as held:
        if found.config.architecture not in ("", kit.architecture):
            raise BuildError(
                f"{source} is for {found.config.architecture}; the guest kit is for {kit.architecture}."
            )
        sections = list(_sections(found, kit, recipe, held, progress))
        check_space(output.parent, sum(section.size for section in sections), "The image")
        with atomic_output(output) as out, Measuring() as measuring:
            writer = EifWriter(out, architecture=kit.architecture, tap=measuring)
            for section in sections:
                writer.add(section)
            measurements = measuring.finish(None)
            check_written(out, writer)
            if signer is not None:
                measurements = add_signature(out, writer, measurements, signer)
    return measurements


def build_time_from(environ: Mapping[str, str]) -> datetime | None:
    """Read SOURCE_DATE_EPOCH (reproducible-builds.org specification 1.1); raises BuildError."""
    text = environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not _SECONDS.fullmatch(text) or int(text) > _LAST_SECOND:
        raise BuildError(f"SOURCE_DATE_EPOCH is {text[:40]!r}; expected seconds since 1970, in digits.")
    return _EPOCH + timedelta(seconds=int(text))


def _sections(
    source: Source, kit: Kit, recipe: Recipe, held: ExitStack, progress: Progress
) -> Iterator[SectionSource]:
    """Yield the sections in the order AWS's builder writes them."""
    config = source.config.overridden(
        cmd=recipe.cmd,
        env=recipe.env,
        entrypoint=recipe.entrypoint,
        workdir=recipe.workdir,
        user=recipe.user,
    )
    # Docker makes a missing working directory in every container it creates, which build-enclave exports
    where = "The image's working directory"
    source.tree.make_directory(split_path(encode_text(config.workdir, where), where))
    customer = customer_ramdisk(
        source.tree.root,
        config.command(like_aws=recipe.like_aws),
        config.env,
        workdir="" if recipe.like_aws else config.workdir,
        user="" if recipe.like_aws else config.user,
    )
    boot = boot_ramdisk(kit.init)
    file, kernel = open_region(kit.kernel)
    held.enter_context(file)
    yield SectionSource(SectionType.KERNEL, kernel.size, kernel.chunks())
    yield SectionSource.of(SectionType.CMDLINE, kit.cmdline.strip().encode())
    yield SectionSource.of(SectionType.METADATA, _metadata(source, kit, recipe).to_bytes())
    yield SectionSource(SectionType.RAMDISK, boot.size, boot.chunks())
    yield SectionSource(
        SectionType.RAMDISK, customer.size, _watched(customer.chunks(), customer.size, progress)
    )


def _metadata(source: Source, kit: Kit, recipe: Recipe) -> ImageMetadata:
    built = recipe.build_time or source.config.created or _EPOCH
    build = BuildMetadata(
        built.astimezone(UTC).isoformat(),
        recipe.build_tool,
        recipe.build_tool_version,
        kernel_version=kit.kernel_version,
    )
    return ImageMetadata(
        recipe.name or source.name or "rootfs",
        recipe.version or source.config.identity or "1.0",
        build,
        source.config.inspect(),
        recipe.custom,
        kit.digest,
    )


def _watched(chunks: Iterable[bytes], total: int, progress: Progress) -> Iterator[bytes]:
    """Report now and then how much of the ramdisk has been written."""
    done, reported = 0, 0
    for chunk in chunks:
        done += len(chunk)
        if done - reported >= 1 << 22 or done == total:
            progress("writing the image", done, total)
            reported = done
        yield chunk
