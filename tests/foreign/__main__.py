"""``python -m foreign``: build the foreign kernel and its company, once a host."""

import sys
import time

from cloister.cli.progress import show_progress
from cloister.errors import CloisterError
from cloister.places import current_places
from foreign.blobs import BlobsMissingError, build_blobs, find_blobs


def main() -> int:
    """Say where they are."""
    places = current_places()
    try:
        blobs = find_blobs(places)
    except BlobsMissingError:
        begun = time.monotonic()
        print("Building a kernel as AWS's enclaves have it, for tests/vm/test_foreign_image.py ...")
        try:
            with show_progress("foreign kernel") as report:
                blobs = build_blobs(places, report)
        except CloisterError as error:
            print(f"foreign: {error}", file=sys.stderr)
            return 1
        print(f"Built in {time.monotonic() - begun:.0f} s.")
    print(f"Foreign kernel {blobs.release}: {blobs.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
