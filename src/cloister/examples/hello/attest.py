"""Ask a running hello enclave for an attestation document: ``python attest.py CID > hello.cose``."""

import secrets
import socket
import sys
import time

from cloister.errors import CloisterError
from cloister.transport import RefusedError, open_stream

DOCUMENT_MAX = 16384
START_SECONDS = 20.0
"""run-enclave returns at the enclave's heartbeat; its program starts a moment later."""


def attest(cid: int, nonce: bytes) -> bytes:
    """Return a fresh document that carries the nonce (24 to 64 bytes)."""
    document = b""
    with connect(cid) as stream:
        stream.settimeout(10)
        stream.sendall(bytes([len(nonce)]) + nonce)
        while len(document) <= DOCUMENT_MAX and (piece := stream.recv(4096)):
            document += piece
    return document


def connect(cid: int) -> socket.socket:
    """Connect to the program, which may still be starting."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return open_stream(cid, 5000)
        except RefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


if __name__ == "__main__":
    nonce = secrets.token_bytes(32)
    print(f"nonce {nonce.hex()}", file=sys.stderr)
    try:
        sys.stdout.buffer.write(attest(int(sys.argv[1]), nonce))
    except (CloisterError, OSError) as error:
        sys.exit(f"attest.py: {error}")
