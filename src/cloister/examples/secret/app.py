"""The enclave's side: use a secret that only this program, unchanged, is given.

One request a connection on vsock port 5000, from the parent alone. The parent says where KMS is and lends the
role's credentials; the program asks KMS to decrypt, with an attestation document, and answers a challenge
with HMAC-SHA256(secret, challenge). The secret itself never leaves. What the parent says is not trusted: it
can make the proof wrong, it cannot learn the secret. Beside that it says what it is to whoever asks.
"""

import base64
import hmac
import socket
import sys

from cloister.errors import CloisterError
from cloister.sdk import (
    AwsCredentials,
    Fault,
    KmsClient,
    accept_parent,
    receive_message,
    send_message,
    serve_attestation,
    through_proxy,
)
from cloister.transport import listen

PORT = 5000
REQUEST_SECONDS = 10.0
MAX_REQUEST = 64 << 10


class RequestError(CloisterError):
    """The parent's request lacks something."""


def main() -> None:
    """Answer one connection after the other, for ever."""
    listener = listen(PORT)
    print(f"listening on vsock port {PORT}", flush=True)
    with serve_attestation():
        while True:
            with accept_parent(listener) as stream:
                try:
                    serve(stream)
                except CloisterError as error:
                    print(f"connection dropped: {error}", file=sys.stderr, flush=True)


def serve(stream: socket.socket) -> None:
    """Read one request and answer it: a proof, or KMS's own words, or what is wrong with the request."""
    request = receive_message(stream, timeout=REQUEST_SECONDS, limit=MAX_REQUEST)
    try:
        answer = {"proof": prove(request)}
    except Fault as fault:
        answer = {"error": {"code": fault.code, "message": fault.message}}
    except (CloisterError, OSError) as error:
        answer = {"error": {"code": type(error).__name__, "message": str(error)}}
    send_message(stream, answer, timeout=REQUEST_SECONDS)


def prove(request: dict[str, object]) -> str:
    """Fetch the secret and return HMAC-SHA256(secret, challenge) in hexadecimal."""
    challenge = blob(request, "challenge")
    if not 16 <= len(challenge) <= 64:
        raise RequestError(f"the challenge has {len(challenge)} bytes, 16 to 64 were expected")
    return hmac.digest(fetch_secret(request), challenge, "sha256").hex()


def fetch_secret(request: dict[str, object]) -> bytes:
    """Have KMS decrypt the ciphertext: sealed to this enclave, unless the parent asks to see that refused."""
    port = request.get("proxy_port")
    if not isinstance(port, int) or not 0 < port < 1 << 32:
        raise RequestError(f"proxy_port is {port!r}, a vsock port was expected")
    kms = KmsClient(
        AwsCredentials(text(request, "access_key"), text(request, "secret_key")),
        region=text(request, "region"),
        endpoint=text(request, "endpoint"),
        connect=through_proxy(port),
    )
    ciphertext, key = blob(request, "ciphertext"), text(request, "key_id")
    if request.get("without_document") is True:
        plain = kms.call("Decrypt", {"CiphertextBlob": base64.b64encode(ciphertext).decode(), "KeyId": key})
        return base64.b64decode(str(plain["Plaintext"]))
    return kms.decrypt(ciphertext, key_id=key)


def text(request: dict[str, object], name: str) -> str:
    """Return a text of the request."""
    value = request.get(name)
    if not isinstance(value, str) or not value.isprintable() or not value.isascii():
        raise RequestError(f"{name} is missing or is not plain text")
    return value


def blob(request: dict[str, object], name: str) -> bytes:
    """Return a base64 value of the request, decoded."""
    try:
        return base64.b64decode(text(request, name), validate=True)
    except ValueError as error:
        raise RequestError(f"{name} is not base64") from error


if __name__ == "__main__":
    main()
