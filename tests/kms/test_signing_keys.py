"""Keys that sign, through boto3: made, shown, asked for signatures, and refused as AWS refuses."""

import hashlib
import json
import sqlite3
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from mypy_boto3_kms import KMSClient
from mypy_boto3_kms.literals import KeySpecType, SigningAlgorithmSpecType

from cloister.kms import open_store, read_decisions
from simulators.key_service import Server

ROWS: list[tuple[KeySpecType, SigningAlgorithmSpecType, hashes.HashAlgorithm]] = [
    ("ECC_NIST_P256", "ECDSA_SHA_256", hashes.SHA256()),
    ("ECC_NIST_P384", "ECDSA_SHA_384", hashes.SHA384()),
    ("ECC_NIST_P521", "ECDSA_SHA_512", hashes.SHA512()),
]
MESSAGE = bytes(range(256)) * 16
ADMINISTRATOR = "arn:aws:iam::000000000000:user/administrator"


def make(kms: KMSClient, spec: KeySpecType = "ECC_NIST_P384") -> str:
    return kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Return code and message of the error a call gives."""
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.fixture(scope="module")
def key_arn(kms: KMSClient) -> str:
    return make(kms)


@pytest.mark.parametrize(("spec", "algorithm", "digest"), ROWS, ids=[row[0] for row in ROWS])
def test_signatures_are_genuine(
    kms: KMSClient, spec: KeySpecType, algorithm: SigningAlgorithmSpecType, digest: hashes.HashAlgorithm
) -> None:
    """Over a message and over its digest, OpenSSL accepts the signature under GetPublicKey's key."""
    key_arn = make(kms, spec)
    told = kms.get_public_key(KeyId=key_arn)
    assert (told["KeyId"], told["KeySpec"], told["KeyUsage"]) == (key_arn, spec, "SIGN_VERIFY")
    assert told["SigningAlgorithms"] == [algorithm]
    assert "EncryptionAlgorithms" not in told
    public_key = load_der_public_key(told["PublicKey"])
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    hashed = hashlib.new(digest.name, MESSAGE).digest()
    raw = kms.sign(KeyId=key_arn, Message=MESSAGE, SigningAlgorithm=algorithm)
    prehashed = kms.sign(KeyId=key_arn, Message=hashed, MessageType="DIGEST", SigningAlgorithm=algorithm)
    for answer in (raw, prehashed):
        assert (answer["KeyId"], answer["SigningAlgorithm"]) == (key_arn, algorithm)
        public_key.verify(answer["Signature"], MESSAGE, ec.ECDSA(digest))
        with pytest.raises(InvalidSignature):
            public_key.verify(answer["Signature"], MESSAGE + b"x", ec.ECDSA(digest))
        verdict = kms.verify(
            KeyId=key_arn, Message=MESSAGE, Signature=answer["Signature"], SigningAlgorithm=algorithm
        )
        assert verdict["SignatureValid"] is True
        assert (verdict["KeyId"], verdict["SigningAlgorithm"]) == (key_arn, algorithm)


def test_wrong_signatures_are_refused(kms: KMSClient, key_arn: str) -> None:
    """Another message, another key and bytes that are no signature: AWS's fault with its empty text."""
    made = kms.sign(KeyId=key_arn, Message=b"x", SigningAlgorithm="ECDSA_SHA_384")["Signature"]
    for key, message, signature in (
        (key_arn, b"y", made),
        (make(kms), b"x", made),
        (key_arn, b"x", made[:-1]),
        (key_arn, b"x", b"\0" * 96),
    ):
        assert refusal(
            lambda: kms.verify(
                KeyId=key,  # noqa: B023 - called at once
                Message=message,  # noqa: B023
                Signature=signature,  # noqa: B023
                SigningAlgorithm="ECDSA_SHA_384",
            )
        ) == ("KMSInvalidSignatureException", "")


def test_a_signing_key_is_described(kms: KMSClient, key_arn: str) -> None:
    """Its metadata lists signing algorithms and nothing of encryption or of symmetric material."""
    metadata = kms.describe_key(KeyId=key_arn)["KeyMetadata"]
    assert metadata["KeySpec"] == metadata["CustomerMasterKeySpec"] == "ECC_NIST_P384"
    assert metadata["SigningAlgorithms"] == ["ECDSA_SHA_384"]
    assert not {"EncryptionAlgorithms", "CurrentKeyMaterialId"} & set(metadata)


def test_mistakes_get_awss_faults(kms: KMSClient, key_arn: str) -> None:
    """Wrong usage, algorithm, digest length and message type are told apart, in AWS's words."""
    symmetric = kms.create_key()["KeyMetadata"]["Arn"]
    cases: list[tuple[Callable[[], object], str, str]] = [
        (
            lambda: kms.create_key(KeySpec="ECC_NIST_P256"),
            "ValidationException",
            "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
        ),
        (
            lambda: kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="ENCRYPT_DECRYPT"),
            "ValidationException",
            "KeyUsage ENCRYPT_DECRYPT is not compatible with KeySpec ECC_NIST_P256",
        ),
        (
            lambda: kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT"),
            "UnsupportedOperationException",
            "KeyUsage KEY_AGREEMENT is not supported.",
        ),
        (
            lambda: kms.sign(KeyId=symmetric, Message=b"x", SigningAlgorithm="ECDSA_SHA_384"),
            "InvalidKeyUsageException",
            f"{symmetric} key usage is ENCRYPT_DECRYPT which is not valid for Sign.",
        ),
        (
            lambda: kms.encrypt(KeyId=key_arn, Plaintext=b"x"),
            "InvalidKeyUsageException",
            f"{key_arn} key usage is SIGN_VERIFY which is not valid for Encrypt.",
        ),
        (
            lambda: kms.generate_data_key(KeyId=key_arn, KeySpec="AES_256"),
            "InvalidKeyUsageException",
            f"{key_arn} key usage is SIGN_VERIFY which is not valid for GenerateDataKey.",
        ),
        (
            lambda: kms.sign(KeyId=key_arn, Message=b"x", SigningAlgorithm="ECDSA_SHA_256"),
            "InvalidKeyUsageException",
            "Algorithm ECDSA_SHA_256 is incompatible with key spec ECC_NIST_P384.",
        ),
        (
            lambda: kms.sign(
                KeyId=key_arn, Message=bytes(32), MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_384"
            ),
            "ValidationException",
            "Digest is invalid length for algorithm ECDSA_SHA_384.",
        ),
        (
            lambda: kms.sign(
                KeyId=key_arn, Message=bytes(64), MessageType="EXTERNAL_MU", SigningAlgorithm="ECDSA_SHA_384"
            ),
            "ValidationException",
            "MessageType EXTERNAL_MU is not compatible with ECDSA_SHA_384.",
        ),
        (
            lambda: kms.get_public_key(KeyId=symmetric),
            "UnsupportedOperationException",
            f"{symmetric} is not an asymmetric key: it has no public half.",
        ),
        (
            lambda: kms.sign(KeyId=key_arn, Message=b"x", SigningAlgorithm="ECDSA_SHA_384", DryRun=True),
            "DryRunOperationException",
            "The request would have succeeded, but the DryRun option is set.",
        ),
    ]
    for call, code, message in cases:
        assert refusal(call) == (code, message)


def test_a_disabled_key_does_nothing(kms: KMSClient) -> None:
    """Neither signature nor public key come from a key that is disabled or about to go."""
    key_arn = make(kms)
    kms.disable_key(KeyId=key_arn)
    for state, code in (("disabled", "DisabledException"), ("pending deletion", "KMSInvalidStateException")):
        if state != "disabled":
            kms.schedule_key_deletion(KeyId=key_arn, PendingWindowInDays=7)
        for call in (
            lambda: kms.get_public_key(KeyId=key_arn),
            lambda: kms.sign(KeyId=key_arn, Message=b"x", SigningAlgorithm="ECDSA_SHA_384"),
        ):
            assert refusal(call) == (code, f"{key_arn} is {state}.")


def test_a_policy_decides_who_signs_what(kms: KMSClient, server: Server) -> None:
    """Action, algorithm and message type are judged by the key's policy, and the judgement is logged."""
    owner = {
        "Sid": "Owner",
        "Effect": "Allow",
        "Principal": {"AWS": ADMINISTRATOR},
        "Action": ["kms:GetPublicKey", "kms:PutKeyPolicy", "kms:Verify"],
        "Resource": "*",
    }
    signer = {
        **owner,
        "Sid": "Signer",
        "Action": "kms:Sign",
        "Condition": {"StringEquals": {"kms:MessageType": "DIGEST", "kms:SigningAlgorithm": "ECDSA_SHA_384"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [owner, signer]})
    made = kms.create_key(KeySpec="ECC_NIST_P384", KeyUsage="SIGN_VERIFY", Policy=policy)["KeyMetadata"]
    kms.sign(KeyId=made["KeyId"], Message=bytes(48), MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_384")
    why = "because no resource-based policy allows the kms:Sign action"
    assert refusal(lambda: kms.sign(KeyId=made["KeyId"], Message=b"x", SigningAlgorithm="ECDSA_SHA_384")) == (
        "AccessDeniedException",
        f"User: {ADMINISTRATOR} is not authorized to perform: kms:Sign on resource: {made['Arn']} {why}",
    )
    record = [record for record in read_decisions(server.decision_log) if record["operation"] == "Sign"][-1]
    assert record["outcome"] == "denied"
    failed = [
        check for check in record["decisions"][0]["statements"][1]["conditions"] if not check["matched"]
    ]
    assert [check["key"] for check in failed] == ["kms:MessageType"]


def test_private_keys_are_encrypted_at_rest(kms: KMSClient, server: Server, key_arn: str) -> None:
    """The database holds the private key sealed: its octets are nowhere in the file."""
    store = open_store(server.state / "cloister/kms")
    key = store.key(key_arn.rpartition("/")[2])
    store.close()
    assert key is not None
    path = server.state / "cloister/kms/kms.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(FULL)")
    database.close()
    for file in path.parent.glob("kms.sqlite3*"):
        assert key.current.secret[-80:] not in file.read_bytes()
    assert key.current.secret.hex() not in repr(key)
