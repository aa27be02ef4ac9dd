"""``python -m container_tools``: fetch skopeo, buildah, a registry and a Docker daemon, once a host."""

import sys

from cloister.cli.progress import show_progress
from cloister.errors import CloisterError
from cloister.places import current_places
from container_tools.unpacking import unpack_tools


def main() -> int:
    """Say where they are."""
    try:
        with show_progress("container tools") as report:
            tools = unpack_tools(current_places(), report)
    except CloisterError as error:
        print(f"container_tools: {error}", file=sys.stderr)
        return 1
    print(f"Container tools: {tools.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
