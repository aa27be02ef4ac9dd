"""Ask Evervault's library about the certificate (DER) on standard input, in a process of its own."""

import json
import sys

from evervault_attestation_bindings import attest_connection

if __name__ == "__main__":
    try:
        attest_connection(sys.stdin.buffer.read(), [])
    except ValueError as error:
        print(json.dumps({"accepted": False, "reason": str(error)}))
    else:
        print(json.dumps({"accepted": True}))
