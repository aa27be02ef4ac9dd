"""``python -m peers``: fetch and build other people's verifiers, once a host."""

import sys
import time

from cloister.cli.progress import show_progress
from cloister.errors import CloisterError
from cloister.places import current_places
from peers.building import PeersMissingError, build_peers, find_peers


def main() -> int:
    """Say where they are."""
    places = current_places()
    try:
        peers = find_peers(places)
    except PeersMissingError:
        begun = time.monotonic()
        print("Building other people's verifiers of attestation documents, for tests/peers ...", flush=True)
        try:
            with show_progress("verifiers") as report:
                peers = build_peers(places, report)
        except CloisterError as error:
            print(f"peers: {error}", file=sys.stderr)
            return 1
        print(f"Built in {time.monotonic() - begun:.0f} s.")
    print(f"Other verifiers, built with {peers.go_version}: {peers.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
