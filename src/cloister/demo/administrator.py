"""The administrator's side of the demo, with boto3: a key for one image alone, and a secret under it."""

import configparser
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister.demo.session import DemoError, Session
from cloister.kms import Account


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret, its ciphertext, and the key it lies under."""

    secret: bytes
    ciphertext: bytes
    key_arn: str


def key_policy(account: Account, pcrs: Mapping[str, str]) -> dict[str, Any]:
    """Return a policy that lets the administrator encrypt, and the role decrypt inside one image alone."""
    arn = f"arn:aws:iam::{account.account}"
    measured = {f"kms:RecipientAttestation:{name}": value for name, value in pcrs.items()}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AdministratorMayEncrypt",
                "Effect": "Allow",
                "Principal": {"AWS": f"{arn}:user/administrator"},
                "Action": ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy", "kms:Encrypt"],
                "Resource": "*",
            },
            {
                "Sid": "OnlyThisImageMayDecrypt",
                "Effect": "Allow",
                "Principal": {"AWS": f"{arn}:role/enclave"},
                "Action": "kms:Decrypt",
                "Resource": "*",
                "Condition": {"StringEqualsIgnoreCase": measured},
            },
        ],
    }


def seal_secret(session: Session, account: Account, endpoint: str, pcrs: Mapping[str, str]) -> Sealed:
    """Create the key and encrypt a fresh secret under it; DemoError when KMS refuses."""
    import boto3  # noqa: PLC0415 - half a second of start-up that other commands need not pay
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above

    access_key, secret_key = read_credentials(account.administrator)
    client = boto3.client(
        "kms",
        endpoint_url=endpoint,
        region_name=account.region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
    )
    session.say(f'>>> kms = boto3.client("kms", endpoint_url="{endpoint}")    # as the administrator')
    policy = key_policy(account, pcrs)
    secret = secrets.token_bytes(32)
    try:
        key = client.create_key(Description="for one image alone", Policy=json.dumps(policy))["KeyMetadata"]
        session.say(f">>> kms.create_key(Policy=json.dumps({_indented(policy)}))")
        session.say(f"'{key['Arn']}'")
        ciphertext = client.encrypt(KeyId=key["KeyId"], Plaintext=secret)["CiphertextBlob"]
        session.say(">>> kms.encrypt(KeyId=key, Plaintext=secrets.token_bytes(32))")
        session.say(f"{len(ciphertext)} bytes of ciphertext")
    except (BotoCoreError, ClientError) as error:
        raise DemoError(f"KMS refused the administrator: {error}") from error
    return Sealed(secret, ciphertext, key["Arn"])


def read_credentials(path: Path) -> tuple[str, str]:
    """Read an access key from an AWS shared-credentials file."""
    parser = configparser.ConfigParser()
    parser.read_string(path.read_text())
    return parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"]


def _indented(policy: Mapping[str, Any]) -> str:
    return json.dumps(policy, indent=2)
