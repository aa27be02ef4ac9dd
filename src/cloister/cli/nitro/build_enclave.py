"""``nitro-cli build-enclave``: AWS's grammar, from any source and without a daemon.

Spec: nitro-tools 1.3, 1.4, 2.4, 3.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from cloister.build import Progress, Recipe, build_image, build_time_from, check_output
from cloister.cli.fetching import fetched_source
from cloister.cli.image import (
    given_text,
    load_custom_metadata,
    load_signer,
    terminable,
)
from cloister.cli.image_progress import shown_progress
from cloister.cli.nitro.describe_eif import nitro_errors
from cloister.cli.nitro.errors import TOOL_VERSION, NitroCliError
from cloister.cli.nitro.grammar import Arguments, Option
from cloister.cli.nitro.sign_eif import SIGNING_OPTIONS
from cloister.fetch import (
    ContainerfileError,
    FetchError,
    FetchOptions,
    ImageName,
    build_containerfile,
    is_local,
    open_workspace,
)
from cloister.kit import KitError, find_kit
from cloister.places import current_places

_LOCALLY_AVAILABLE = "Using the locally available Docker image..."
_ACTION = "Failed to build enclave"


OPTIONS = (
    Option(
        "docker-uri",
        "Uri pointing to an existing docker container or to be created locally when docker-dir is present",
        "docker-uri",
        required=True,
    ),
    Option("docker-dir", "Local path to a directory containing a Dockerfile", "docker-dir"),
    Option("output-file", "Location where the Enclave Image should be saved", "output-file", required=True),
    *SIGNING_OPTIONS,
    Option("name", "Name for enclave image", "image_name"),
    Option("version", "Version of the enclave image", "image_version"),
    Option("metadata", "Path to JSON containing the custom metadata provided by the user.", "metadata"),
)


def run(args: Arguments) -> int:
    """Build as AWS does: CMD wins over ENTRYPOINT, WORKDIR and USER are ignored."""
    _refuse_impossible()
    with nitro_errors(_ACTION, "E60"):
        signer = load_signer(args.signing_certificate, args.private_key)
    print("Start building the Enclave Image...", file=sys.stderr)
    with nitro_errors(_ACTION, "E48"):
        recipe = Recipe(
            name=given_text(args.name or ""),
            version=given_text(args.version or ""),
            custom=load_custom_metadata(None if args.metadata is None else Path(args.metadata)),
            like_aws=True,
            build_time=build_time_from(os.environ),
            build_tool="nitro-cli",
            build_tool_version=TOOL_VERSION,
        )
        output = Path(args.output_file)
        check_output(output)
        try:
            kit = find_kit(current_places())
        except KitError as error:
            raise NitroCliError("E48", f"EIF building error. {error}", action=_ACTION) from error
        with (
            terminable(),
            shown_progress() as progress,
            _source(args, recipe, kit.architecture, progress) as (source, recipe),
        ):
            measurements = build_image(
                source, output, kit=kit, recipe=recipe, signer=signer, progress=progress
            )
    print("Enclave Image successfully created.", file=sys.stderr)
    print(json.dumps({"Measurements": measurements.to_json()}, indent=2))
    return 0


@contextmanager
def _source(
    args: Arguments, recipe: Recipe, architecture: str, progress: Progress | None
) -> Iterator[tuple[str, Recipe]]:
    """Give what the builder reads: a local source, or an image that was built or fetched.

    Raises NitroCliError: E49 where a Dockerfile cannot be built, E50 where an image cannot be had.
    """
    if args.docker_dir is None and is_local(args.docker_uri):
        print(_LOCALLY_AVAILABLE, file=sys.stderr)
        yield args.docker_uri, recipe
        return
    try:
        name = ImageName.parse(args.docker_uri)
        if not name.transport:  # AWS's rule, whatever it makes of a registry's port (nitro-tools 2.4)
            recipe = replace(recipe, name=recipe.name or args.docker_uri.partition(":")[0])
        if args.docker_dir is not None:
            name = _built(Path(args.docker_dir), name)
        stack = ExitStack()
        fetched = stack.enter_context(fetched_source(name, architecture, FetchOptions(), progress))
    except ContainerfileError as error:
        raise NitroCliError("E49", f"Docker image build error. {error}", action=_ACTION) from error
    except FetchError as error:
        raise NitroCliError("E50", f"Docker image pull error. {error}", action=_ACTION) from error
    with stack:
        if fetched.local and args.docker_dir is None:
            print(_LOCALLY_AVAILABLE, file=sys.stderr)
        yield fetched.source, replace(recipe, name=recipe.name or name.short)


def _built(directory: Path, name: ImageName) -> ImageName:
    """Build a Dockerfile into this host's container store; what buildah says is shown."""
    with open_workspace(current_places().artifacts) as workspace:
        return build_containerfile(
            directory,
            name,
            workspace=workspace,
            environ=os.environ,
            said=lambda text: print(text, end="", file=sys.stderr, flush=True),
        )


def _refuse_impossible() -> None:
    """Refuse what has no place to be built in; raises NitroCliError."""
    if "NITRO_CLI_ARTIFACTS" not in os.environ and "HOME" not in os.environ:
        raise NitroCliError(
            "E51",
            "Neither NITRO_CLI_ARTIFACTS nor HOME is set: there is no place to build in.",
            action=_ACTION,
        )
