"""A secret for attested code and for nothing else, through boto3 and the real server."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mypy_boto3_kms import KMSClient

from cloister.cli.main import main
from cloister.cms import open_envelope
from simulators.key_service import MODULE, RECIPIENT, Notary, Server, public_key_info

GOOD = {0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x03" * 48}
SECRET = b"the secret"
ENCLAVE = "arn:aws:sts::000000000000:assumed-role/enclave/cloister"


ACCOUNT = "arn:aws:iam::000000000000:root"
ADMINISTRATOR = "arn:aws:iam::000000000000:user/administrator"


def key_policy(
    conditions: dict[str, Any],
    action: str | list[str] = "kms:Decrypt",
    effect: str = "Allow",
    owner: str = ADMINISTRATOR,
) -> str:
    """Return a policy that leaves administration to the owner and one action to the enclave's role."""
    role = {"AWS": "arn:aws:iam::000000000000:role/enclave"}
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "Administration",
                    "Effect": "Allow",
                    "Principal": {"AWS": owner},
                    "Action": "kms:*",
                    "Resource": "*",
                },
                {
                    "Sid": "OnlyTheImage",
                    "Effect": effect,
                    "Principal": role,
                    "Action": action,
                    "Resource": "*",
                    "Condition": conditions,
                },
            ],
        }
    )


IMAGE = {
    "StringEqualsIgnoreCase": {
        f"kms:RecipientAttestation:PCR{index}": value.hex().upper() for index, value in GOOD.items()
    }
}


@pytest.fixture(scope="module")
def sealed(kms: KMSClient) -> tuple[str, bytes]:
    """Make a key that one image alone may decrypt with, and a ciphertext under it."""
    made = kms.create_key(Policy=key_policy(IMAGE, ["kms:Decrypt", "kms:GenerateDataKey"]))["KeyMetadata"]
    return made["Arn"], kms.encrypt(KeyId=made["KeyId"], Plaintext=SECRET)["CiphertextBlob"]


@pytest.fixture(scope="module")
def enclave(server: Server) -> KMSClient:
    """Return a client with the enclave role's credentials."""
    return server.client("enclave")


def recipient(document: bytes) -> Any:
    return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_the_image_gets_the_secret(enclave: KMSClient, notary: Notary, sealed: tuple[str, bytes]) -> None:
    """The right image gets the secret sealed to its key, and no plaintext is in the answer."""
    answer = enclave.decrypt(CiphertextBlob=sealed[1], Recipient=recipient(notary.document(pcrs=GOOD)))
    assert "Plaintext" not in answer
    assert answer["KeyId"] == sealed[0]
    assert open_envelope(answer["CiphertextForRecipient"], RECIPIENT) == SECRET


def test_data_key_for_the_image(enclave: KMSClient, notary: Notary, sealed: tuple[str, bytes]) -> None:
    """A data key reaches the enclave sealed; its ciphertext decrypts to the same bytes."""
    document = recipient(notary.document(pcrs=GOOD))
    answer = enclave.generate_data_key(KeyId=sealed[0], KeySpec="AES_256", Recipient=document)
    assert "Plaintext" not in answer
    again = enclave.decrypt(CiphertextBlob=answer["CiphertextBlob"], Recipient=document)
    keys = [open_envelope(a["CiphertextForRecipient"], RECIPIENT) for a in (answer, again)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32


def test_random_for_a_recipient(kms: KMSClient, enclave: KMSClient, notary: Notary) -> None:
    """Random bytes come sealed to whom an identity policy allows them; the enclave's role has none."""
    document = recipient(notary.document(pcrs=GOOD))
    answer = kms.generate_random(NumberOfBytes=24, Recipient=document)
    assert set(answer) - {"ResponseMetadata"} == {"CiphertextForRecipient"}
    assert len(open_envelope(answer["CiphertextForRecipient"], RECIPIENT)) == 24
    code, message = refusal(lambda: enclave.generate_random(NumberOfBytes=24, Recipient=document))
    assert code == "AccessDeniedException"
    assert message == (
        f"User: {ENCLAVE} is not authorized to perform: kms:GenerateRandom "
        "because no identity-based policy allows the kms:GenerateRandom action"
    )


DEBUG = {0: bytes(48), 1: bytes(48), 2: bytes(48)}


@pytest.mark.parametrize(
    "pcrs",
    [{**GOOD, 2: b"\x04" * 48}, DEBUG],
    ids=["another image", "debug mode"],
)
def test_other_images_are_denied(
    enclave: KMSClient, notary: Notary, sealed: tuple[str, bytes], pcrs: dict[int, bytes]
) -> None:
    """One register off, or debug mode's zeros, and AWS's denial comes back."""
    call = recipient(notary.document(pcrs=pcrs))
    denied = refusal(lambda: enclave.decrypt(CiphertextBlob=sealed[1], Recipient=call))
    assert denied == ("AccessDeniedException", denial(sealed[0]))


def denial(arn: str) -> str:
    return (
        f"User: {ENCLAVE} is not authorized to perform: kms:Decrypt on resource: {arn} "
        "because no resource-based policy allows the kms:Decrypt action"
    )


def test_no_document_is_denied(enclave: KMSClient, sealed: tuple[str, bytes]) -> None:
    """Without a document the condition keys do not exist, so the statement does not apply."""
    denied = refusal(lambda: enclave.decrypt(CiphertextBlob=sealed[1]))
    assert denied == ("AccessDeniedException", denial(sealed[0]))


def test_identity_policies_are_blamed_where_they_could_have_allowed(
    kms: KMSClient, enclave: KMSClient
) -> None:
    """A key policy that leaves the decision to the account makes AWS name the missing identity policy."""
    made = kms.create_key(Policy=key_policy(IMAGE, owner=ACCOUNT))["KeyMetadata"]
    blob = kms.encrypt(KeyId=made["KeyId"], Plaintext=SECRET)["CiphertextBlob"]
    _, message = refusal(lambda: enclave.decrypt(CiphertextBlob=blob))
    assert message == denial(made["Arn"]).replace("resource-based", "identity-based")


def test_debug_documents_match_zeros(kms: KMSClient, enclave: KMSClient, notary: Notary) -> None:
    """As on AWS, a policy that names zeros lets debug enclaves in."""
    zeros = {"StringEquals": {"kms:RecipientAttestation:ImageSha384": "0" * 96}}
    key_id = kms.create_key(Policy=key_policy(zeros))["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=key_id, Plaintext=SECRET)["CiphertextBlob"]
    answer = enclave.decrypt(CiphertextBlob=blob, Recipient=recipient(notary.document(pcrs=DEBUG)))
    assert open_envelope(answer["CiphertextForRecipient"], RECIPIENT) == SECRET


def test_explicit_deny_has_its_own_words(kms: KMSClient, enclave: KMSClient, notary: Notary) -> None:
    """A Deny without the image's register denies a missing document as well as a wrong one."""
    unless = {"StringNotEquals": {"kms:RecipientAttestation:PCR0": GOOD[0].hex()}}
    made = kms.create_key(Policy=key_policy(unless, effect="Deny"))["KeyMetadata"]
    blob = kms.encrypt(KeyId=made["KeyId"], Plaintext=SECRET)["CiphertextBlob"]
    wrong = recipient(notary.document(pcrs=DEBUG))
    for more in ({}, {"Recipient": wrong}):
        code, message = refusal(lambda: enclave.decrypt(CiphertextBlob=blob, **more))  # noqa: B023 - called at once
        assert code == "AccessDeniedException"
        assert message.endswith(f"{made['Arn']} with an explicit deny in a resource-based policy")


def small_key() -> bytes:
    return public_key_info(rsa.generate_private_key(public_exponent=65537, key_size=1024))


def elliptic_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


NOW = datetime.now(UTC)
BAD_DOCUMENTS: list[Any] = [
    pytest.param(lambda n: b"some text", "", id="random bytes"),  # noqa: ARG005 - what each makes of a notary
    pytest.param(lambda n: n.document(pcrs=GOOD)[:-1] + b"\x00", "signature", id="altered signature"),
    pytest.param(lambda n: n.document(pcrs=GOOD)[:-200], "", id="truncated"),
    pytest.param(lambda n: n.document(pcrs=GOOD, at=NOW - timedelta(seconds=330)), "", id="stale"),
    pytest.param(lambda n: n.document(pcrs=GOOD, at=NOW + timedelta(hours=1)), "", id="from the future"),
    pytest.param(lambda n: n.document(pcrs=GOOD, public_key=b"x"), "RSA public key", id="no key"),
    pytest.param(lambda n: n.document(pcrs=GOOD, public_key=small_key()), "2048", id="small key"),
    pytest.param(lambda n: n.document(pcrs=GOOD, public_key=elliptic_key()), "RSA", id="elliptic key"),
]


@pytest.mark.parametrize(("make", "text"), BAD_DOCUMENTS)
def test_bad_documents_are_invalid(
    enclave: KMSClient,
    notary: Notary,
    sealed: tuple[str, bytes],
    make: Callable[[Notary], bytes],
    text: str,
) -> None:
    """A document that does not verify is a ValidationException, whatever it claims."""
    document = recipient(make(notary))
    code, message = refusal(lambda: enclave.decrypt(CiphertextBlob=sealed[1], Recipient=document))
    assert code == "ValidationException"
    assert "document" in message
    assert text in message


def test_foreign_roots_are_not_trusted(
    enclave: KMSClient, stranger: Notary, sealed: tuple[str, bytes]
) -> None:
    """The right registers under another host's root are worth nothing."""
    document = recipient(stranger.document(pcrs=GOOD))
    code, _ = refusal(lambda: enclave.decrypt(CiphertextBlob=sealed[1], Recipient=document))
    assert code == "ValidationException"


def test_both_members_are_needed(enclave: KMSClient, notary: Notary, sealed: tuple[str, bytes]) -> None:
    """A Recipient without its document, or without its algorithm, is refused rather than ignored."""
    for part in ({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, {"AttestationDocument": b"x"}, {}):
        broken: Any = part
        code, _ = refusal(lambda: enclave.decrypt(CiphertextBlob=sealed[1], Recipient=broken))  # noqa: B023
        assert code == "ValidationException"


def test_replayed_documents_are_accepted(
    enclave: KMSClient, notary: Notary, sealed: tuple[str, bytes]
) -> None:
    """As AWS does: one document serves again while it is fresh."""
    document = recipient(notary.document(pcrs=GOOD))
    for _ in range(2):
        assert enclave.decrypt(CiphertextBlob=sealed[1], Recipient=document)["CiphertextForRecipient"]


def last_decision(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.decision_log.read_text().splitlines()[-1])
    return found


def test_denials_are_explained(
    server: Server, enclave: KMSClient, notary: Notary, sealed: tuple[str, bytes]
) -> None:
    """The log tells which statement and condition failed, with expected and actual value, and no secret."""
    wrong = {**GOOD, 2: b"\x04" * 48}
    with pytest.raises(ClientError) as caught:
        enclave.decrypt(CiphertextBlob=sealed[1], Recipient=recipient(notary.document(pcrs=wrong)))
    record = last_decision(server)
    assert record["requestId"] == caught.value.response["ResponseMetadata"]["RequestId"]
    assert record["outcome"] == "denied"
    assert record["caller"] == ENCLAVE
    assert record["key"] == sealed[0]
    assert record["attestation"]["moduleId"] == MODULE
    assert record["attestation"]["imageDigest"] == GOOD[0].hex()
    (decision,) = record["decisions"]
    failed = [
        (statement["sid"], condition["key"], condition["expected"], condition["actual"])
        for statement in decision["statements"]
        for condition in statement["conditions"]
        if not condition["matched"]
    ]
    expected = GOOD[2].hex().upper()
    assert failed == [("OnlyTheImage", "kms:RecipientAttestation:PCR2", [expected], [wrong[2].hex()])]


@pytest.fixture
def placed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands in this process find the server's state."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("placed")
def test_the_command_explains_denials(
    enclave: KMSClient, notary: Notary, sealed: tuple[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """``cloister kms decisions`` says the same for people."""
    wrong = {**GOOD, 2: b"\x04" * 48}
    document = recipient(notary.document(pcrs=wrong))
    refusal(lambda: enclave.decrypt(CiphertextBlob=sealed[1], Recipient=document))
    words = ["kms", "decisions", "--denied", "--last", "1"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert 'key policy, statement "OnlyTheImage" (Allow) does not apply' in text
    assert "condition StringEqualsIgnoreCase kms:RecipientAttestation:PCR2 failed" in text
    assert f"expected {GOOD[2].hex().upper()}" in text
    assert f"actual   {wrong[2].hex()}" in text
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "denied"


def test_no_secret_is_logged(server: Server, kms: KMSClient) -> None:
    """Neither plaintexts nor data keys nor secret access keys are in the decision log."""
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.encrypt(KeyId=key_id, Plaintext=b"unmistakable plaintext")
    data_key = kms.generate_data_key(KeyId=key_id, KeySpec="AES_256")["Plaintext"]
    log = server.decision_log.read_bytes()
    assert b"unmistakable" not in log
    assert data_key.hex().encode() not in log
    assert server.credentials("administrator")[1].encode() not in log
    assert server.decision_log.stat().st_mode & 0o077 == 0
