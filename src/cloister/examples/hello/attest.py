"""Ask a running hello enclave for an attestation document: ``python attest.py CID > hello.cose``.

What ``cloister attestation request`` does, as a program of one's own would do it; nothing is verified here.
"""

import secrets
import sys

from cloister.errors import CloisterError
from cloister.sdk import ask_enclave

START_SECONDS = 20.0
"""run-enclave returns at the enclave's heartbeat; its program starts a moment later."""


def attest(cid: int, nonce: bytes) -> bytes:
    """Return a fresh document that carries the nonce (16 to 64 bytes)."""
    return ask_enclave(cid, nonce, patience=START_SECONDS)


if __name__ == "__main__":
    nonce = secrets.token_bytes(32)
    print(f"nonce {nonce.hex()}", file=sys.stderr)
    try:
        sys.stdout.buffer.write(attest(int(sys.argv[1]), nonce))
    except (CloisterError, OSError) as error:
        sys.exit(f"attest.py: {error}")
