"""The statement that ``cloister image policy`` prints, put into a key's policy on the real server."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from mypy_boto3_kms import KMSClient

from cloister.cli.main import main
from cloister.cms import open_envelope
from cloister.eif import Image, sign_pcr0
from cloister.measure import measure
from simulators.crafted_images import SIGNATURE, loose, sections
from simulators.key_service import RECIPIENT, Notary, Server
from simulators.signing_keys import self_signed

ROLE = "arn:aws:iam::000000000000:role/enclave"
OWNER = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::000000000000:user/administrator"},
    "Action": "kms:*",
    "Resource": "*",
}
KEY = ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def image_file(tmp_path: Path) -> tuple[Path, dict[int, bytes]]:
    """Write a signed image and return its registers."""
    path = tmp_path / "x.eif"
    pem = self_signed(KEY).public_bytes(Encoding.PEM)
    signature = sign_pcr0(measure(Image.from_buffer(loose(sections()))).pcr0, pem, KEY)
    path.write_bytes(loose(sections(more=[(SIGNATURE, signature.to_bytes())])))
    return path, measure(Image.from_buffer(path.read_bytes())).registers()


@pytest.mark.parametrize("choice", [([], (0, 1, 2)), (["--signer"], (8,))], ids=["image", "signer"])
def test_statement_lets_the_image_decrypt_and_no_other(
    choice: tuple[list[str], tuple[int, ...]],
    image_file: tuple[Path, dict[int, bytes]],
    server: Server,
    notary: Notary,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """KMS accepts the statement; the attested image gets the secret, one register else does not."""
    (options, registers), (path, image), kms = choice, image_file, server.client()
    capsys.readouterr()
    assert main(["image", "policy", str(path), "--principal", ROLE, *options]) == 0
    statement = json.loads(capsys.readouterr().out)
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    policy = {"Version": "2012-10-17", "Statement": [OWNER, statement]}
    kms.put_key_policy(KeyId=key_id, Policy=json.dumps(policy))
    sealed = kms.encrypt(KeyId=key_id, Plaintext=b"secret")["CiphertextBlob"]
    enclave = server.client("enclave")

    def ask(pcrs: dict[int, bytes]) -> bytes:
        recipient: Any = {
            "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
            "AttestationDocument": notary.document(pcrs=pcrs),
        }
        answer = enclave.decrypt(CiphertextBlob=sealed, Recipient=recipient)
        return open_envelope(answer["CiphertextForRecipient"], RECIPIENT)

    assert ask(image) == b"secret"
    for index in registers:
        with pytest.raises(ClientError, match="AccessDenied"):
            ask(image | {index: b"\1" * 48})


def test_statement_with_its_placeholder_is_accepted(
    image_file: tuple[Path, dict[int, bytes]], kms: KMSClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """As printed, with several actions, it is a well-formed statement."""
    actions = ["--action", "kms:Decrypt", "--action", "kms:GenerateDataKey"]
    assert main(["image", "policy", str(image_file[0]), *actions]) == 0
    statement = json.loads(capsys.readouterr().out)
    assert statement["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    policy = {"Version": "2012-10-17", "Statement": [OWNER, statement]}
    kms.put_key_policy(KeyId=key_id, Policy=json.dumps(policy))
    assert json.loads(kms.get_key_policy(KeyId=key_id)["Policy"])["Statement"][1] == statement
