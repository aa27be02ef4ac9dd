"""``python -m reproducible``: fetch another release's Python for these tests, once a host."""

import sys

from cloister.cli.progress import show_progress
from cloister.errors import CloisterError
from cloister.places import current_places
from reproducible.other_python import unpack_other_python


def main() -> int:
    """Say where it is."""
    try:
        with show_progress("another Python") as report:
            other = unpack_other_python(current_places(), report)
    except CloisterError as error:
        print(f"reproducible: {error}", file=sys.stderr)
        return 1
    print(f"Another Python: {other.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
