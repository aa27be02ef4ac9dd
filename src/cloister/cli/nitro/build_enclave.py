"""``nitro-cli build-enclave``: AWS's grammar over local sources. Spec: nitro-tools 1.3, 1.4, 3."""

import json
import os
import sys
from pathlib import Path

from cloister.build import Recipe, build_image, build_time_from
from cloister.cli.image import (
    load_custom_metadata,
    load_signer,
    shown_progress,
    terminable,
)
from cloister.cli.nitro.describe_eif import nitro_errors
from cloister.cli.nitro.errors import TOOL_VERSION, NitroCliError
from cloister.cli.nitro.grammar import Arguments, Option
from cloister.cli.nitro.sign_eif import SIGNING_OPTIONS
from cloister.kit import KitError, find_kit
from cloister.places import current_places

_LOCAL = ("dir:", "tar:", "oci:", "oci-archive:", "docker-archive:")
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
    _refuse_impossible(args)
    with nitro_errors(_ACTION, "E60"):
        signer = load_signer(args.signing_certificate, args.private_key)
    print("Start building the Enclave Image...", file=sys.stderr)
    print("Using the locally available Docker image...", file=sys.stderr)
    with nitro_errors(_ACTION, "E48"):
        recipe = Recipe(
            name=args.name or "",
            version=args.version or "",
            custom=load_custom_metadata(None if args.metadata is None else Path(args.metadata)),
            like_aws=True,
            build_time=build_time_from(os.environ),
            build_tool="nitro-cli",
            build_tool_version=TOOL_VERSION,
        )
        try:
            with terminable(), shown_progress() as progress:
                measurements = build_image(
                    args.docker_uri,
                    Path(args.output_file),
                    kit=find_kit(current_places()),
                    recipe=recipe,
                    signer=signer,
                    progress=progress,
                )
        except KitError as error:
            raise NitroCliError("E48", f"EIF building error. {error}", action=_ACTION) from error
    print("Enclave Image successfully created.", file=sys.stderr)
    print(json.dumps({"Measurements": measurements.to_json()}, indent=2))
    return 0


def _refuse_impossible(args: Arguments) -> None:
    """Refuse what has no place to be built in, and what cannot be built here yet; raises NitroCliError."""
    if "NITRO_CLI_ARTIFACTS" not in os.environ and "HOME" not in os.environ:
        raise NitroCliError(
            "E51",
            "Neither NITRO_CLI_ARTIFACTS nor HOME is set: there is no place to build in.",
            action=_ACTION,
        )
    if args.docker_dir is not None:
        raise NitroCliError(
            "E49",
            "Docker image build error. --docker-dir is not supported yet: build an OCI layout and name it.",
            action=_ACTION,
        )
    if not args.docker_uri.startswith(_LOCAL):
        raise NitroCliError(
            "E50",
            f"Docker image pull error. {args.docker_uri} would come from a registry or daemon; for now "
            f"--docker-uri takes a local source: {', '.join(_LOCAL)} and a path.",
            action=_ACTION,
        )
