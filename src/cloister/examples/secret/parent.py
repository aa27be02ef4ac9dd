"""The parent's side: lend the enclave credentials and a way to KMS, and have it prove that it has the secret.

Run it as ``python parent.py --cid 16 …``; it prints one line of JSON: the challenge with the enclave's proof
(exit code 0), or KMS's refusal (exit code 1). Whoever knows the secret checks the proof: HMAC-SHA256(secret,
challenge).
"""

import argparse
import base64
import configparser
import json
import secrets
import socket
import sys
import time
from contextlib import closing
from pathlib import Path

from cloister.errors import CloisterError
from cloister.sdk import receive_message, send_message
from cloister.transport import RefusedError, open_stream

ENCLAVE_PORT = 5000
ANSWER_SECONDS = 90.0


def main() -> int:
    """Ask once and print the answer."""
    args = parse_arguments()
    challenge = secrets.token_bytes(32)
    access_key, secret_key = read_credentials(args.credentials, args.profile)
    request: dict[str, object] = {
        "access_key": access_key,
        "secret_key": secret_key,
        "region": args.region,
        "endpoint": args.endpoint,
        "proxy_port": args.proxy_port,
        "ciphertext": base64.b64encode(args.ciphertext.read_bytes()).decode(),
        "key_id": args.key_id,
        "challenge": base64.b64encode(challenge).decode(),
        "without_document": args.without_document,
    }
    try:
        with closing(connect(args.cid, args.wait)) as stream:
            send_message(stream, request)
            answer = receive_message(stream, timeout=ANSWER_SECONDS)
    except (CloisterError, OSError) as error:
        print(f"parent.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"challenge": challenge.hex(), **answer}))
    return 0 if "proof" in answer else 1


def connect(cid: int, seconds: float) -> socket.socket:
    """Connect to the program in the enclave, which may need a moment until it listens."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return open_stream(cid, ENCLAVE_PORT)
        except RefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def read_credentials(path: Path, profile: str) -> tuple[str, str]:
    """Read an access key from an AWS shared-credentials file: nothing secret is ever an argument."""
    parser = configparser.ConfigParser()
    parser.read_string(path.read_text())
    return parser[profile]["aws_access_key_id"], parser[profile]["aws_secret_access_key"]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Ask the enclave of examples/secret for its proof.")
    parser.add_argument("--cid", type=int, required=True, help="the enclave's CID, as run-enclave printed it")
    parser.add_argument(
        "--proxy-port", type=int, required=True, help="vsock port on which vsock-proxy listens"
    )
    parser.add_argument(
        "--endpoint", required=True, metavar="HOST:PORT", help="where KMS is, for the Host header"
    )
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument(
        "--credentials", type=Path, required=True, metavar="FILE", help="credentials of the role"
    )
    parser.add_argument("--profile", default="default")
    parser.add_argument("--key-id", required=True, metavar="ARN", help="the KMS key, in full")
    parser.add_argument("--ciphertext", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--without-document", action="store_true", help="call KMS without attestation, to be refused"
    )
    parser.add_argument("--wait", type=float, default=20.0, help="seconds the enclave may take to come up")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
