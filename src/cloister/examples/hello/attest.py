"""Ask a running hello enclave for an attestation document: ``python attest.py CID > hello.cose``."""

import secrets
import sys

from cloister.transport import open_stream

DOCUMENT_MAX = 16384


def attest(cid: int, nonce: bytes) -> bytes:
    """Return a fresh document that carries the nonce (24 to 64 bytes)."""
    document = b""
    with open_stream(cid, 5000, timeout=10) as stream:
        stream.settimeout(10)
        stream.sendall(bytes([len(nonce)]) + nonce)
        while len(document) <= DOCUMENT_MAX and (piece := stream.recv(4096)):
            document += piece
    return document


if __name__ == "__main__":
    nonce = secrets.token_bytes(32)
    print(f"nonce {nonce.hex()}", file=sys.stderr)
    sys.stdout.buffer.write(attest(int(sys.argv[1]), nonce))
