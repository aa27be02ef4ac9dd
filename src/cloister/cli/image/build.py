"""``cloister image build``: an enclave image from whatever it is made of."""

import argparse
import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from cloister import __version__
from cloister.build import (
    BuildError,
    Progress,
    Recipe,
    Signer,
    build_image,
    build_time_from,
    check_output,
    read_bounded,
)
from cloister.cli.fetching import add_fetch_arguments, fetch_options, fetched_source
from cloister.cli.image.describe import print_registers
from cloister.cli.image_progress import shown_progress
from cloister.fetch import image_named
from cloister.kit import ARCHITECTURES, Kit, choose_kit, find_kit
from cloister.measure import Measurements
from cloister.places import current_places
from cloister.rootfs import RECIPE_NAME, open_example

SUMMARY: Final = "build an image from a source"
DESCRIPTION: Final = """Build an enclave image.

  cloister image build SOURCE -o hello.eif

SOURCE is a directory, a tar, an OCI layout or a docker-archive; what lies at the path is recognised, or say
it with
dir:, tar:, oci:PATH[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE[:NAME].
An image's name that is no file here is looked for in a Docker daemon, in this host's container store, then at
its registry; docker://NAME, docker-daemon:NAME and containers-storage:NAME say where.
A directory with an enclave.toml is assembled from pinned packages first, see examples/secret.
Temporary space: compressed layers (or a compressed tar) take their unpacked size in the output's directory,
beside the image; a fetched image takes up to twice its own size in $NITRO_CLI_ARTIFACTS
(default: ~/.cache/cloister/artifacts)."""

_TEXTS: Final = (
    ("--cmd", "COMMAND", "what to run: shell words or a JSON array; replaces the image's CMD"),
    (
        "--entrypoint",
        "COMMAND",
        "what CMD's words are given to; replaces the image's ENTRYPOINT and drops its CMD",
    ),
    ("--workdir", "DIR", "where it runs; replaces the image's WORKDIR"),
    ("--user", "U[:G]", "whom it runs as; replaces the image's USER"),
    ("--name", "N", "image name in the metadata"),
    ("--version", "V", "image version in the metadata"),
)

MAX_METADATA: Final = 4096
"""Bytes of a metadata file, as nitro-cli has it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source", metavar="SOURCE", help="directory, tar, OCI layout, docker-archive or image name"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="where the image goes"
    )
    add_recipe_arguments(parser)
    add_signing_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what decides, beside the source, what the image is."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--kit", metavar="DIGEST", help="guest kit to use; default: the one in use")
    which.add_argument(
        "--arch",
        choices=ARCHITECTURES,
        default="",
        help="use the kit of this architecture; default: this host's",
    )
    for option, metavar, meaning in _TEXTS:
        parser.add_argument(option, metavar=metavar, type=given_text, help=meaning)
    parser.add_argument(
        "--env",
        metavar="K=V",
        action="append",
        default=[],
        type=given_text,
        help="set a variable; repeatable",
    )
    parser.add_argument("--metadata", metavar="FILE", type=Path, help="JSON to carry in the metadata")
    parser.add_argument(
        "--compat",
        choices=["aws"],
        help="aws: CMD wins over ENTRYPOINT, WORKDIR and USER are ignored, as AWS's build-enclave does",
    )
    parser.add_argument(
        "--offline", action="store_true", help="for enclave.toml: use what is cached, or fail"
    )
    parser.add_argument(
        "--update-lock", action="store_true", help="for enclave.toml: pin today's versions, then build"
    )
    add_fetch_arguments(parser)


def add_signing_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nitro-cli's two signing options, which need each other."""
    parser.add_argument("--signing-certificate", metavar="C", type=Path, help="PEM certificate to sign with")
    parser.add_argument(
        "--private-key",
        metavar="K",
        help="its private key (P-256, P-384 or P-521): a PEM file, a PKCS#11 URI or a KMS key's ARN",
    )
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Build the image and print its measurements."""
    usage_error: Callable[[str], None] = args.usage_error
    if (args.signing_certificate is None) != (args.private_key is None):
        usage_error("--signing-certificate and --private-key need each other")
    if args.compat == "aws" and (args.workdir is not None or args.user is not None):
        usage_error("--compat aws ignores WORKDIR and USER: --workdir and --user cannot be given with it")
    signer = load_signer(args.signing_certificate, args.private_key)
    with terminable():
        measurements = build_from(args, args.output, signer)
    if args.json:
        print(json.dumps({"Measurements": measurements.to_json()}, indent=2))
    else:
        print(f"{args.output}  {args.output.stat().st_size:,} bytes")
        print_registers(measurements)
    return 0


def build_from(args: argparse.Namespace, output: Path, signer: Signer | None = None) -> Measurements:
    """Build ``args.source`` as the recipe's options say; raises BuildError and what else building raises."""
    recipe = Recipe(
        cmd=None if args.cmd is None else parse_command(args.cmd),
        env=args.env,
        entrypoint=None if args.entrypoint is None else parse_command(args.entrypoint, empty=True),
        workdir=args.workdir,
        user=args.user,
        name=args.name or "",
        version=args.version or "",
        custom=load_custom_metadata(args.metadata),
        like_aws=args.compat == "aws",
        build_time=build_time_from(os.environ),
        build_tool_version=__version__,
    )
    kit = _kit(args.kit, args.arch)
    check_output(output)
    with (
        shown_progress() as progress,
        _assembled(args, recipe, kit.architecture, progress) as (source, recipe),
    ):
        return build_image(source, output, kit=kit, recipe=recipe, signer=signer, progress=progress)


@contextmanager
def _assembled(
    args: argparse.Namespace, recipe: Recipe, architecture: str, progress: Progress | None
) -> Iterator[tuple[str | Path, Recipe]]:
    """Fetch an image, assemble a directory that holds an enclave.toml; others are taken as they are."""
    directory = Path(args.source)
    if (image := image_named(args.source)) is not None:
        with fetched_source(image, architecture, fetch_options(args), progress, or_path=True) as fetched:
            yield fetched.source, replace(recipe, name=recipe.name or image.short)
        return
    if not args.source or not (directory / RECIPE_NAME).is_file():
        yield args.source, recipe
        return
    with open_example(
        current_places(),
        directory,
        offline=args.offline,
        update_lock=args.update_lock,
        architecture=architecture,
        progress=lambda what: progress(what, 0, 0) if progress else None,
    ) as assembled:
        yield (
            assembled.root,
            replace(
                recipe,
                cmd=recipe.cmd or (assembled.cmd if recipe.entrypoint is None else None),
                env=(*assembled.env, *recipe.env),
                name=recipe.name or directory.resolve().name,
            ),
        )


def _kit(prefix: str | None, architecture: str) -> Kit:
    return (
        find_kit(current_places(), architecture) if prefix is None else choose_kit(current_places(), prefix)
    )


def given_text(argument: str) -> str:
    """Read an argument as UTF-8 in every locale: what the shell passed on is what the image gets."""
    return os.fsencode(argument).decode("utf-8", "surrogateescape")


def parse_command(text: str, *, empty: bool = False) -> list[str]:
    """Read a command as a JSON array or as shell words, which may be none if ``empty``; raises BuildError."""
    try:
        words = json.loads(text) if text.startswith("[") else shlex.split(text)
    except (ValueError, RecursionError) as error:
        raise BuildError(f"The command {text[:100]!r} cannot be read: {error}.") from None
    if (
        not isinstance(words, list)
        or not (words or empty)
        or not all(isinstance(word, str) for word in words)
    ):
        raise BuildError(f"The command {text[:100]!r} is not a list of words.")
    return words


def load_custom_metadata(path: Path | None) -> Any:
    """Read a metadata file of at most 4096 bytes; raises BuildError."""
    if path is None:
        return None
    try:
        return json.loads(read_bounded(path, MAX_METADATA))
    except (ValueError, RecursionError) as error:
        raise BuildError(f"The metadata file {path} is not JSON: {error}.") from None


def load_signer(certificate: str | Path | None, private_key: str | None) -> Signer | None:
    """Open the certificate and key that a command names, if any; the command line has both or neither."""
    if certificate is None or private_key is None:
        return None
    from cloister.cli.passphrase import ask_pin  # noqa: PLC0415 - what signs nothing starts sooner
    from cloister.signers import PIN_VARIABLE, open_signer  # noqa: PLC0415

    ask = partial(ask_pin, variable=PIN_VARIABLE)
    return open_signer(Path(certificate), private_key, now=datetime.now(UTC), ask=ask)


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into the interruption that cleans up."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
