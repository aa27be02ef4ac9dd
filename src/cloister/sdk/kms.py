"""KMS from inside an enclave: calls carry a fresh attestation document, secrets arrive sealed to it.

Follows the KMS API's ``Recipient`` parameter (spec kms-and-attestation.md 1): the enclave makes an RSA-2048
key, puts the public half into a document, and opens the ``CiphertextForRecipient`` that comes back. The
envelope says nothing about who sealed it (1.7): an answer is only as trustworthy as the link, so pin the
key's ARN and prefer TLS that ends in the enclave.
"""

import base64
import binascii
import json
import socket
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister.aws import CONTENT_TYPE, Request, decode_fault, sign
from cloister.cms import open_envelope
from cloister.errors import CloisterError
from cloister.sdk.device import attest
from cloister.sdk.http_client import post
from cloister.transport import open_stream

RECIPIENT_ALGORITHM = "RSAES_OAEP_SHA_256"
RSA_BITS = 2048
"""What AWS's own clients use (spec nitro-tools.md 9)."""
DEFAULT_TIMEOUT = 30.0
PROXY_CID = 3
"""The parent, where vsock-proxy listens."""


class KmsAnswerError(CloisterError):
    """The answer is no answer to the question: wrong key, missing field, not JSON."""


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """An access key; the secret half never shows in a traceback."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh data key: in the clear for this enclave, and wrapped under the KMS key for storage."""

    plaintext: bytes = field(repr=False)
    ciphertext: bytes


@dataclass(slots=True)
class KmsClient:
    """A KMS client whose secrets only this enclave can read.

    ``endpoint`` is what goes into the Host header, ``host`` or ``host:port``; ``connect`` opens a stream to
    it; ``attest`` returns a document that holds the given public key.
    """

    credentials: AwsCredentials
    region: str
    endpoint: str
    connect: Callable[[], socket.socket]
    attest: Callable[[bytes], bytes] = lambda public_key: attest(public_key=public_key)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    timeout: float = DEFAULT_TIMEOUT
    """Seconds one call may take."""
    _key: RSAPrivateKey | None = field(default=None, init=False, repr=False)

    def decrypt(
        self,
        ciphertext: bytes,
        *,
        key_id: str | None = None,
        encryption_context: Mapping[str, str] | None = None,
    ) -> bytes:
        """Decrypt; with ``key_id``, a full ARN, insist that this key and no other did it. Raises Fault."""
        parameters: dict[str, object] = {"CiphertextBlob": _encode(ciphertext)}
        if key_id is not None:
            parameters["KeyId"] = key_id
        if encryption_context:
            parameters["EncryptionContext"] = dict(encryption_context)
        answer = self._call_attested("Decrypt", parameters)
        _check_key(answer, key_id)
        return self._open(answer)

    def generate_data_key(
        self, key_id: str, *, length: int = 32, encryption_context: Mapping[str, str] | None = None
    ) -> DataKey:
        """Return a new data key of ``length`` bytes under ``key_id``. Raises Fault."""
        parameters: dict[str, object] = {"KeyId": key_id, "NumberOfBytes": length}
        if encryption_context:
            parameters["EncryptionContext"] = dict(encryption_context)
        answer = self._call_attested("GenerateDataKey", parameters)
        _check_key(answer, key_id)
        plaintext = self._open(answer)
        if len(plaintext) != length:
            raise KmsAnswerError(f"KMS sent a data key of {len(plaintext)} bytes, {length} were asked for")
        return DataKey(plaintext, _decode(answer, "CiphertextBlob"))

    def generate_random(self, length: int) -> bytes:
        """Return ``length`` random bytes from KMS, sealed to this enclave on their way. Raises Fault."""
        random = self._open(self._call_attested("GenerateRandom", {"NumberOfBytes": length}))
        if len(random) != length:
            raise KmsAnswerError(f"KMS sent {len(random)} random bytes, {length} were asked for")
        return random

    def call(self, operation: str, parameters: Mapping[str, object]) -> dict[str, object]:
        """Call any operation as it is, without a document, and return its result. Raises Fault."""
        body = json.dumps(parameters, separators=(",", ":")).encode()
        headers = (
            ("host", self.endpoint),
            ("content-type", CONTENT_TYPE),
            ("x-amz-target", f"TrentService.{operation}"),
        )
        request = sign(
            Request("POST", "/", "", headers, body),
            access_key=self.credentials.access_key,
            secret_key=self.credentials.secret_key,
            session_token=self.credentials.session_token,
            region=self.region,
            service="kms",
            now=self.now(),
        )
        with closing(self.connect()) as stream:
            response = post(stream, path="/", headers=dict(request.headers), body=body, timeout=self.timeout)
        if response.status != 200:
            raise decode_fault(response.body, response.status)
        return _object(response.body)

    def _call_attested(self, operation: str, parameters: dict[str, object]) -> dict[str, object]:
        """Call with a document made for this call, around the client's own public key."""
        if self._key is None:
            self._key = generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        recipient = {
            "KeyEncryptionAlgorithm": RECIPIENT_ALGORITHM,
            "AttestationDocument": _encode(self.attest(public)),
        }
        return self.call(operation, {**parameters, "Recipient": recipient})

    def _open(self, answer: Mapping[str, object]) -> bytes:
        if answer.get("Plaintext"):
            raise KmsAnswerError("KMS answered in the clear although a document came with the request")
        assert self._key is not None
        return open_envelope(_decode(answer, "CiphertextForRecipient"), self._key)


def through_proxy(port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Callable[[], socket.socket]:
    """Return a ``connect`` that reaches KMS through the parent's vsock-proxy on ``port``."""
    return lambda: open_stream(PROXY_CID, port, timeout=timeout)


def _check_key(answer: Mapping[str, object], key_id: str | None) -> None:
    """Pin the key (security-checklist 5.9); an alias or a bare id cannot be compared: KMS checks it."""
    if (
        key_id is not None
        and key_id.startswith("arn:")
        and ":key/" in key_id
        and answer.get("KeyId") != key_id
    ):
        raise KmsAnswerError(f"KMS answered for the key {answer.get('KeyId')!r}, {key_id!r} was asked for")


def _object(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KmsAnswerError(f"KMS answered with {len(body)} bytes that are not JSON") from error
    if not isinstance(value, dict):
        raise KmsAnswerError(f"KMS answered with a JSON {type(value).__name__}, an object was expected")
    return value


def _encode(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


def _decode(answer: Mapping[str, object], name: str) -> bytes:
    text = answer.get(name)
    try:
        if isinstance(text, str) and text:
            return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise KmsAnswerError(f"KMS answered with a {name} that is not base64") from error
    raise KmsAnswerError(f"KMS answered without {name}")
