"""Sources that are not files of this host: what can be said about getting them, and getting them."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloister.build import Progress
from cloister.fetch import (
    Fetched,
    FetchError,
    FetchOptions,
    ImageName,
    fetch_image,
    open_workspace,
)
from cloister.places import current_places


def add_fetch_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be said about registries, as podman and skopeo spell it."""
    fetching = parser.add_argument_group("when the image is in a registry, a daemon or a container store")
    fetching.add_argument(
        "--pull",
        choices=["missing", "always", "never"],
        default="missing",
        help="ask a bare name's registry when this host has no such image (default), always, or never",
    )
    fetching.add_argument(
        "--authfile", metavar="FILE", type=Path, help="registry credentials; default: where skopeo looks"
    )
    fetching.add_argument(
        "--tls-verify",
        choices=["true", "false"],
        help="whether the registry must prove itself by TLS; default: what registries.conf says",
    )


def fetch_options(args: argparse.Namespace) -> FetchOptions:
    """Return what was said."""
    verify = None if args.tls_verify is None else args.tls_verify == "true"
    return FetchOptions(args.pull, args.authfile, verify)


@contextmanager
def fetched_source(
    name: ImageName,
    architecture: str,
    options: FetchOptions,
    progress: Progress | None,
    *,
    or_path: bool = False,
) -> Iterator[Fetched]:
    """Bring an image here for as long as it is read; raises FetchError.

    ``or_path``: the name might have been meant as a path, which an error then mentions.
    """
    with open_workspace(current_places().artifacts) as workspace:
        try:
            fetched = fetch_image(
                name,
                architecture=architecture,
                workspace=workspace,
                options=options,
                environ=os.environ,
                progress=progress or (lambda _what, _done, _total: None),
            )
        except FetchError as error:
            if name.transport or not or_path:
                raise
            raise FetchError(f"There is no file or directory {name.text}; {error}") from error
        yield fetched
