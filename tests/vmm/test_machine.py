"""What a machine's starter hears from bubblewrap."""

import os
import threading
import time

from cloister.vmm.machine import _read_to_end


def test_information_that_comes_in_pieces_is_read_whole() -> None:
    """Bubblewrap writes more than once: closing the pipe after the first piece would kill it half-way."""
    ours, theirs = os.pipe()

    def tell() -> None:
        for piece in (b'{\n    "child-pid": 7', b",\n", b'    "net-namespace": 1\n}\n'):
            os.write(theirs, piece)
            time.sleep(0.02)
        os.close(theirs)

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        assert _read_to_end(ours, 10) == b'{\n    "child-pid": 7,\n    "net-namespace": 1\n}\n'
    finally:
        teller.join()
        os.close(ours)


def test_silence_is_waited_for_no_longer_than_allowed() -> None:
    """A pipe that nobody writes to or closes gives nothing, in time."""
    ours, theirs = os.pipe()
    try:
        assert _read_to_end(ours, 0.05) == b""
    finally:
        os.close(ours)
        os.close(theirs)
