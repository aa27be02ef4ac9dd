"""``nitro-cli build-enclave``: AWS's grammar over local sources. Spec: nitro-tools 1.3, 1.4, 3."""

import argparse
import json
import os
import sys
from pathlib import Path

from cloister.build import Recipe, build_image, build_time_from
from cloister.cli.image import (
    add_signing_arguments,
    load_custom_metadata,
    load_signer,
    shown_progress,
    terminable,
)
from cloister.cli.nitro.describe_eif import nitro_errors
from cloister.cli.nitro.errors import TOOL_VERSION, NitroCliError
from cloister.cli.nitro.sign_eif import refuse_remote_key
from cloister.kit import KitError, find_kit
from cloister.places import current_places

HELP = "Build an enclave image and save it to a file."
_LOCAL = ("dir:", "tar:", "oci:", "oci-archive:", "docker-archive:")
_ACTION = "Failed to build enclave"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare AWS's options."""
    parser.add_argument("--docker-uri", metavar="URI", required=True)
    parser.add_argument("--docker-dir", metavar="DIR")
    parser.add_argument("--output-file", metavar="FILE", type=Path, required=True)
    add_signing_arguments(parser)
    parser.add_argument("--name", metavar="NAME", default="")
    parser.add_argument("--version", metavar="VERSION", default="")
    parser.add_argument("--metadata", metavar="FILE", type=Path)


def run(args: argparse.Namespace) -> int:
    """Build as AWS does: CMD wins over ENTRYPOINT, WORKDIR and USER are ignored."""
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
    refuse_remote_key(args.private_key)
    with nitro_errors(_ACTION, "E60"):
        signer = load_signer(args)
    print("Start building the Enclave Image...", file=sys.stderr)
    print("Using the locally available Docker image...", file=sys.stderr)
    with nitro_errors(_ACTION, "E48"):
        recipe = Recipe(
            name=args.name,
            version=args.version,
            custom=load_custom_metadata(args.metadata),
            like_aws=True,
            build_time=build_time_from(os.environ),
            build_tool="nitro-cli",
            build_tool_version=TOOL_VERSION,
        )
        try:
            with terminable(), shown_progress() as progress:
                measurements = build_image(
                    args.docker_uri,
                    args.output_file,
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
