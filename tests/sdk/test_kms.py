"""The enclave's KMS client, against the real service in a process of its own, and against liars."""

import base64
import configparser
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister.cms import EnvelopeError, seal
from cloister.kms import initialise_kms
from cloister.nsm import SecurityModule
from cloister.pcrs import PcrBank
from cloister.sdk import AwsCredentials, Fault, KmsAnswerError, KmsClient, NsmDevice
from cloister.trust import Trust, initialise

REGION = "us-east-1"
ACCOUNT = "arn:aws:iam::000000000000"
PCRS = {index: bytes([index + 1]) * 48 for index in range(3)}
MODULE_ID = "i-0123456789abcdef0-enc0123456789abcdef"
SECRET = b"nobody else's business"


@dataclass(frozen=True)
class Service:
    """A running KMS, and what a client needs to know of it."""

    endpoint: str
    trust: Trust
    credentials: Path

    def client(self, name: str, pcrs: dict[int, bytes] | None = None) -> KmsClient:
        """Return the client of an enclave with these registers."""
        parser = configparser.ConfigParser()
        parser.read(self.credentials / name)
        keys = parser["default"]
        address = urlsplit(self.endpoint)
        module = SecurityModule(
            module_id=MODULE_ID,
            bank=PcrBank(pcrs or PCRS),
            credentials=lambda now: self.trust.enclave_credentials(MODULE_ID, now),
        )
        device = NsmDevice(lambda request: module.handle(request, now=datetime.now(UTC), random=os.urandom))
        return KmsClient(
            AwsCredentials(keys["aws_access_key_id"], keys["aws_secret_access_key"]),
            region=REGION,
            endpoint=address.netloc,
            connect=lambda: socket.create_connection((address.hostname, address.port), timeout=10),
            attest=lambda key: device.attest(public_key=key),
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start ``cloister kms serve`` with a state of its own."""
    home = tmp_path_factory.mktemp("kms")
    now = datetime.now(UTC)
    trust = initialise(home / "cloister/pki", region=REGION, instance_id="i-0123456789abcdef0", now=now)
    account = initialise_kms(home / "cloister/kms")
    environment = {**os.environ, "XDG_STATE_HOME": str(home), "NITRO_CLI_LOGS_PATH": str(home / "logs")}
    reader, writer = os.pipe()
    command = [
        sys.executable,
        "-m",
        "cloister.cli.main",
        "kms",
        "serve",
        "--port",
        "0",
        "--ready-fd",
        str(writer),
    ]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, pass_fds=[writer], stdout=log, stderr=log)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        endpoint = pipe.readline().strip()
    try:
        assert endpoint, (home / "log").read_text()
        yield Service(endpoint, trust, account.credentials)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def key(service: Service) -> str:
    """Create a key that only an enclave with ``PCRS`` may use, and return its ARN."""
    condition = {f"kms:RecipientAttestation:PCR{index}": value.hex() for index, value in PCRS.items()}
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"{ACCOUNT}:user/administrator"},
                "Action": "kms:*",
                "Resource": "*",
            },
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"{ACCOUNT}:role/enclave"},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": {"StringEqualsIgnoreCase": condition},
            },
        ],
    }
    answer: Any = service.client("administrator").call("CreateKey", {"Policy": json.dumps(policy)})
    return str(answer["KeyMetadata"]["Arn"])


@pytest.fixture(scope="module")
def ciphertext(service: Service, key: str) -> bytes:
    """Encrypt the secret as the administrator."""
    plaintext = base64.b64encode(SECRET).decode()
    answer = service.client("administrator").call("Encrypt", {"KeyId": key, "Plaintext": plaintext})
    return base64.b64decode(str(answer["CiphertextBlob"]))


def test_right_enclave_decrypts(service: Service, key: str, ciphertext: bytes) -> None:
    """An enclave with the expected registers gets the plaintext, sealed to its own key on the way."""
    assert service.client("enclave").decrypt(ciphertext, key_id=key) == SECRET


def test_other_enclave_is_denied(service: Service, key: str, ciphertext: bytes) -> None:
    """An enclave with another PCR2 gets KMS's code and AWS's text."""
    with pytest.raises(Fault) as caught:
        service.client("enclave", {**PCRS, 2: bytes(48)}).decrypt(ciphertext, key_id=key)
    assert caught.value.code == "AccessDeniedException"
    assert "is not authorized to perform: kms:Decrypt" in caught.value.message


def test_call_without_document_is_denied(service: Service, key: str, ciphertext: bytes) -> None:
    """The role alone, without an attestation document, is denied."""
    blob = base64.b64encode(ciphertext).decode()
    with pytest.raises(Fault) as caught:
        service.client("enclave").call("Decrypt", {"CiphertextBlob": blob, "KeyId": key})
    assert caught.value.code == "AccessDeniedException"


def test_data_key_can_be_unwrapped_again(service: Service, key: str) -> None:
    """A data key's wrapped half decrypts to its clear half, under the same encryption context only."""
    client = service.client("enclave")
    made = client.generate_data_key(key, encryption_context={"purpose": "test"})
    assert len(made.plaintext) == 32
    assert (
        client.decrypt(made.ciphertext, key_id=key, encryption_context={"purpose": "test"}) == made.plaintext
    )
    with pytest.raises(Fault) as caught:
        client.decrypt(made.ciphertext, key_id=key)
    assert caught.value.code == "InvalidCiphertextException"


def test_random_bytes_arrive_sealed(service: Service) -> None:
    """GenerateRandom gives as many bytes as were asked for, and others the next time."""
    client = service.client("administrator")
    first, second = client.generate_random(48), client.generate_random(48)
    assert len(first) == 48
    assert first != second


def test_wrong_secret_key_is_refused_by_name(service: Service) -> None:
    """A call signed with the wrong secret carries KMS's code."""
    client = service.client("enclave")
    client.credentials = AwsCredentials(client.credentials.access_key, "not it")
    with pytest.raises(Fault) as caught:
        client.generate_random(1)
    assert caught.value.code == "InvalidSignatureException"


def test_every_call_brings_a_fresh_document(service: Service, key: str, ciphertext: bytes) -> None:
    """Two calls attest twice, around the same key of the enclave's."""
    client, seen = service.client("enclave"), list[bytes]()
    attest = client.attest

    def watched(public_key: bytes) -> bytes:
        seen.append(public_key)
        return attest(public_key)

    client.attest = watched
    client.decrypt(ciphertext, key_id=key)
    client.decrypt(ciphertext, key_id=key)
    assert len(seen) == 2
    assert seen[0] == seen[1]


ARN = f"arn:aws:kms:{REGION}:000000000000:key/11111111-2222-3333-4444-555555555555"


def lying_client(answer: dict[str, Any] | bytes, status: str = "200 OK") -> KmsClient:
    """Return a client of a service that answers every call with the same bytes."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair()

        def serve() -> None:
            with theirs:
                seen = b""
                while b"\r\n\r\n" not in seen:
                    seen += theirs.recv(1 << 16)
                theirs.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

        threading.Thread(target=serve, daemon=True).start()
        return ours

    return KmsClient(
        AwsCredentials("AKIDEXAMPLE", "x"), REGION, "kms", connect=connect, attest=lambda _: b"document"
    )


def envelope(plaintext: bytes) -> Callable[[bytes], str]:
    """Return what a service without scruples answers to a document with some public key."""
    other = generate_private_key(public_exponent=65537, key_size=2048).public_key()
    spki = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    sealed = seal(plaintext, other, spki=spki, key=os.urandom(32), iv=os.urandom(16))
    return lambda _: base64.b64encode(sealed).decode()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({"KeyId": "arn:aws:kms:us-east-1:1:key/other"}, "answered for the key"),
        ({}, "answered for the key None"),
        ({"KeyId": ARN, "Plaintext": "c2VjcmV0"}, "in the clear"),
        ({"KeyId": ARN}, "without CiphertextForRecipient"),
        ({"KeyId": ARN, "CiphertextForRecipient": "!"}, "is not base64"),
        ({"KeyId": ARN, "CiphertextForRecipient": 7}, "without CiphertextForRecipient"),
        (b"[]", "a JSON list"),
        (b"{", "that are not JSON"),
    ],
)
def test_lying_service_is_not_believed(answer: dict[str, Any] | bytes, complaint: str) -> None:
    """An answer for another key, in the clear, or without its envelope is refused."""
    with pytest.raises(KmsAnswerError, match=complaint):
        lying_client(answer).decrypt(b"x", key_id=ARN)


def test_envelope_for_somebody_else_cannot_be_opened() -> None:
    """A secret sealed to another key is an error of the envelope, not a wrong secret."""
    answer = {"KeyId": ARN, "CiphertextForRecipient": envelope(SECRET)(b"")}
    with pytest.raises(EnvelopeError, match="envelope"):
        lying_client(answer).decrypt(b"x", key_id=ARN)


def test_answer_that_is_no_fault_still_has_a_status() -> None:
    """An error page of something in between is reported with its status."""
    with pytest.raises(Fault, match="status 502"):
        lying_client(b"<html>", "502 Bad Gateway").generate_random(1)


def test_secret_key_is_not_in_the_representation() -> None:
    """Neither credentials nor data keys show their secret half when they are printed."""
    assert "hidden" not in repr(AwsCredentials("AKID", "hidden", "hidden"))
