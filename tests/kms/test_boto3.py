"""boto3, unmodified, against the real server: what each operation does, and how it refuses."""

import json
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError
from mypy_boto3_kms import KMSClient

KEY_ARN_PREFIX = "arn:aws:kms:us-east-1:000000000000:key/"
ROOT = "arn:aws:iam::000000000000:root"


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Return code and message of the error a call gives."""
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.fixture(scope="module")
def key_id(kms: KMSClient) -> str:
    return kms.create_key(Description="for tests")["KeyMetadata"]["KeyId"]


def test_create_and_describe(kms: KMSClient) -> None:
    """A new key is described as it was created, by id and by ARN."""
    made = kms.create_key(Description="d", Tags=[{"TagKey": "a", "TagValue": "b"}])["KeyMetadata"]
    assert made["Arn"] == KEY_ARN_PREFIX + made["KeyId"]
    assert made["KeyState"] == "Enabled"
    assert made["KeySpec"] == "SYMMETRIC_DEFAULT"
    for name in (made["KeyId"], made["Arn"]):
        assert kms.describe_key(KeyId=name)["KeyMetadata"] == made


def test_encrypt_decrypt(kms: KMSClient, key_id: str) -> None:
    """A plaintext comes back, with the key's ARN, and the blob is no longer than AWS allows."""
    plaintext = bytes(range(256)) * 16
    sealed = kms.encrypt(KeyId=key_id, Plaintext=plaintext)
    assert sealed["KeyId"] == KEY_ARN_PREFIX + key_id
    assert len(sealed["CiphertextBlob"]) <= 6144
    opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"])
    assert opened["Plaintext"] == plaintext
    assert opened["KeyId"] == sealed["KeyId"]
    assert kms.encrypt(KeyId=key_id, Plaintext=plaintext)["CiphertextBlob"] != sealed["CiphertextBlob"]


def test_encryption_context_is_bound(kms: KMSClient, key_id: str) -> None:
    """Only the very context of the encryption opens a ciphertext; AWS's fault has an empty message."""
    context = {"tenant": "a", "purpose": "test"}
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"x", EncryptionContext=context)["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == b"x"
    for wrong in ({}, {"tenant": "a"}, {**context, "more": "1"}, {"tenant": "b", "purpose": "test"}):
        code, message = refusal(lambda: kms.decrypt(CiphertextBlob=blob, EncryptionContext=wrong))  # noqa: B023 - called at once
        assert (code, message) == ("InvalidCiphertextException", "")


def test_altered_ciphertexts_are_refused(kms: KMSClient, key_id: str) -> None:
    """A blob altered in its version, key id, generation, nonce or content is refused."""
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    for position in (0, 1, 5, 41, 60, -1):
        altered = bytearray(blob)
        altered[position] ^= 1
        code, _ = refusal(lambda: kms.decrypt(CiphertextBlob=bytes(altered)))  # noqa: B023 - called at once
        assert code in ("InvalidCiphertextException", "AccessDeniedException")


def test_data_keys_and_random(kms: KMSClient, key_id: str) -> None:
    """A data key's ciphertext decrypts to its plaintext; sizes are as asked."""
    made = kms.generate_data_key(KeyId=key_id, KeySpec="AES_256", EncryptionContext={"a": "b"})
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"a": "b"})
    assert made["Plaintext"] == opened["Plaintext"]
    assert len(made["Plaintext"]) == 32
    assert len(kms.generate_data_key(KeyId=key_id, NumberOfBytes=77)["Plaintext"]) == 77
    assert len(kms.generate_random(NumberOfBytes=1024)["Plaintext"]) == 1024


def test_aliases(kms: KMSClient, key_id: str) -> None:
    """An alias stands for its key, once."""
    kms.create_alias(AliasName="alias/tests/one", TargetKeyId=key_id)
    assert kms.describe_key(KeyId="alias/tests/one")["KeyMetadata"]["KeyId"] == key_id
    arn = "arn:aws:kms:us-east-1:000000000000:alias/tests/one"
    assert kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyId"] == key_id
    assert [a["AliasName"] for a in kms.list_aliases(KeyId=key_id)["Aliases"]] == ["alias/tests/one"]
    code, message = refusal(lambda: kms.create_alias(AliasName="alias/tests/one", TargetKeyId=key_id))
    assert (code, message) == ("AlreadyExistsException", f"An alias with the name {arn} already exists")


def test_pages(kms: KMSClient, key_id: str) -> None:
    """ListKeys gives every key once, page by page."""
    kms.create_key()
    pages = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 1})
    ids = [key["KeyId"] for page in pages for key in page["Keys"]]
    assert key_id in ids
    assert len(ids) == len(set(ids)) >= 2


def test_key_states(kms: KMSClient) -> None:
    """Disabled keys and those about to go refuse to work, in AWS's words."""
    made = kms.create_key()["KeyMetadata"]
    key_id, arn = made["KeyId"], made["Arn"]
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    kms.disable_key(KeyId=key_id)
    assert refusal(lambda: kms.decrypt(CiphertextBlob=blob)) == ("DisabledException", f"{arn} is disabled.")
    kms.enable_key(KeyId=key_id)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    assert kms.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)["KeyState"] == "PendingDeletion"
    expected = ("KMSInvalidStateException", f"{arn} is pending deletion.")
    for call in (
        lambda: kms.encrypt(KeyId=key_id, Plaintext=b"x"),
        lambda: kms.enable_key(KeyId=key_id),
        lambda: kms.create_alias(AliasName="alias/gone", TargetKeyId=key_id),
    ):
        assert refusal(call) == expected


def test_policies(kms: KMSClient) -> None:
    """The default policy leaves a key to the account; a put policy is read back as AWS writes it."""
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    default = json.loads(kms.get_key_policy(KeyId=key_id)["Policy"])
    assert default["Statement"][0]["Sid"] == "Enable IAM User Permissions"
    statement = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    kms.put_key_policy(KeyId=key_id, Policy=json.dumps({"Version": "2012-10-17", "Statement": statement}))
    again = json.loads(kms.get_key_policy(KeyId=key_id, PolicyName="default")["Policy"])
    assert again["Statement"] == [{**statement, "Principal": {"AWS": "*"}}]


def test_large_policy_is_kept_and_a_larger_one_refused(kms: KMSClient) -> None:
    """A policy just under the limit works, though GetKeyPolicy shows it longer; one over it is refused."""
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    one = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    for count, fits in ((470, True), (600, False)):
        policy = json.dumps({"Version": "2012-10-17", "Statement": [one] * count}, separators=(",", ":"))
        assert (len(policy) <= 32768) is fits
        if fits:
            kms.put_key_policy(KeyId=key_id, Policy=policy)
            kms.encrypt(KeyId=key_id, Plaintext=b"x")
            assert len(json.loads(kms.get_key_policy(KeyId=key_id)["Policy"])["Statement"]) == count
        else:
            with pytest.raises(kms.exceptions.MalformedPolicyDocumentException):
                kms.put_key_policy(KeyId=key_id, Policy=policy)


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("{", "not valid JSON"),
        ("{}", "at least one statement"),
        ('{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}', "no principal"),
        (
            '{"Statement":[{"Effect":"Allow","Principal":{"AWS":"bob"},"Action":"kms:*","Resource":"*"}]}',
            "invalid principals",
        ),
        (
            (
                '{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:role/none"},'
                '"Action":"kms:*","Resource":"*"}]}'
            ),
            "invalid principals: no arn:aws:iam::000000000000:role/none exists",
        ),
        (
            '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*"}]}',
            "will not allow you to update the key policy",
        ),
        (
            (
                '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*",'
                '"Condition":{"StringSortOf":{"a":"b"}}}]}'
            ),
            "unknown operator 'StringSortOf'",
        ),
    ],
)
def test_bad_policies_are_refused(kms: KMSClient, key_id: str, policy: str, text: str) -> None:
    """A policy that breaks the grammar, names nobody or locks its author out is not taken."""
    for call in (
        lambda: kms.create_key(Policy=policy),
        lambda: kms.put_key_policy(KeyId=key_id, Policy=policy),
    ):
        code, message = refusal(call)
        assert code == "MalformedPolicyDocumentException"
        assert text in message


def test_lockout_check_can_be_bypassed(kms: KMSClient) -> None:
    """Who says that he means it may lock himself out."""
    statement = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:DescribeKey", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    made = kms.create_key(Policy=policy, BypassPolicyLockoutSafetyCheck=True)["KeyMetadata"]
    code, message = refusal(lambda: kms.put_key_policy(KeyId=made["KeyId"], Policy=policy))
    assert code == "AccessDeniedException"
    assert message == (
        "User: arn:aws:iam::000000000000:user/administrator is not authorized to perform: kms:PutKeyPolicy "
        f"on resource: {made['Arn']} because no resource-based policy allows the kms:PutKeyPolicy action"
    )


def test_dry_run(kms: KMSClient, key_id: str) -> None:
    """A dry run ends in its own fault once the call would have succeeded."""
    assert refusal(lambda: kms.encrypt(KeyId=key_id, Plaintext=b"x", DryRun=True)) == (
        "DryRunOperationException",
        "The request would have succeeded, but the DryRun option is set.",
    )


KEY_TEXT = "Key 'arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000' does not exist"
WRONG_KEY = "The key ID in the request does not identify a CMK that can perform this operation."


def test_recorded_faults(kms: KMSClient, key_id: str) -> None:
    """Mistakes get the codes and texts that were recorded from AWS."""
    nowhere = "arn:aws:kms:eu-west-1:000000000000:key/" + key_id
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    cases: list[tuple[Callable[[], object], str, str]] = [
        (lambda: kms.describe_key(KeyId="fake-key-id"), "NotFoundException", "Invalid keyId 'fake-key-id'"),
        (lambda: kms.describe_key(KeyId=nowhere), "NotFoundException", "Invalid arn eu-west-1"),
        (
            lambda: kms.describe_key(KeyId="00000000-0000-0000-0000-000000000000"),
            "NotFoundException",
            KEY_TEXT,
        ),
        (kms.generate_random, "ValidationException", "NumberOfBytes is required."),
        (lambda: kms.decrypt(CiphertextBlob=blob, KeyId=other), "IncorrectKeyException", WRONG_KEY),
        (lambda: kms.decrypt(CiphertextBlob=b"some text"), "InvalidCiphertextException", ""),
        (
            lambda: kms.create_key(Tags=[{"TagKey": "a", "TagValue": "1"}, {"TagKey": "a", "TagValue": "2"}]),
            "TagException",
            "Duplicate tag keys",
        ),
        (
            lambda: kms.create_key(Tags=[{"TagKey": "aws:a", "TagValue": "1"}]),
            "TagException",
            "Tags beginning with aws: are reserved",
        ),
    ]
    for call, code, message in cases:
        assert refusal(call) == (code, message)


def test_other_key_specs_say_so(kms: KMSClient) -> None:
    """Key specs that are not built yet are refused by a modelled fault."""
    assert (
        refusal(lambda: kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY"))[0]
        == "UnsupportedOperationException"
    )
    assert refusal(lambda: kms.create_key(KeyUsage="SIGN_VERIFY"))[0] == "ValidationException"
    assert refusal(lambda: kms.create_key(Origin="EXTERNAL"))[0] == "UnsupportedOperationException"


def test_unbuilt_operations_say_so(kms: KMSClient, key_id: str) -> None:
    """An operation that is not built yet is unknown."""
    assert refusal(lambda: kms.list_grants(KeyId=key_id))[0] == "UnknownOperationException"


USER = "arn:aws:iam::000000000000:user/administrator"


@pytest.mark.parametrize(
    ("operator", "key", "value"),
    [
        ("StringEquals", "aws:PrincipalArn", USER),
        ("StringEquals", "aws:username", "administrator"),
        ("StringEquals", "aws:PrincipalAccount", "000000000000"),
        ("StringEquals", "kms:CallerAccount", "000000000000"),
        ("StringEquals", "aws:PrincipalType", "User"),
        ("StringLike", "aws:userid", "AIDA*"),
        ("StringEquals", "aws:RequestedRegion", "us-east-1"),
        ("IpAddress", "aws:SourceIp", "127.0.0.0/8"),
        ("Bool", "aws:SecureTransport", "false"),
        ("StringLike", "aws:UserAgent", "Boto3/*"),
        ("DateGreaterThan", "aws:CurrentTime", "2026-01-01T00:00:00Z"),
        ("NumericGreaterThan", "aws:EpochTime", "1767225600"),
        ("StringEquals", "kms:KeySpec", "SYMMETRIC_DEFAULT"),
        ("StringEquals", "kms:KeyUsage", "ENCRYPT_DECRYPT"),
        ("StringEquals", "kms:KeyOrigin", "AWS_KMS"),
        ("Bool", "kms:MultiRegion", "false"),
        ("StringEquals", "aws:ResourceTag/team", "red"),
        ("StringEquals", "kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT"),
        ("StringEquals", "kms:EncryptionContext:tenant", "a"),
        ("ForAllValues:StringEquals", "kms:EncryptionContextKeys", ["tenant", "purpose"]),
        ("Null", "kms:ViaService", "true"),
        ("Null", "kms:RecipientAttestation:PCR0", "true"),
        ("Null", "kms:RequestAlias", "true"),
    ],
)
def test_condition_keys(kms: KMSClient, operator: str, key: str, value: object) -> None:
    """Each condition key has the value that AWS gives it; its opposite denies."""
    tags = [{"TagKey": "team", "TagValue": "red"}]
    for effect, granted in (("Allow", True), ("Deny", False)):
        owner = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
        judged = {
            **owner,
            "Principal": {"AWS": USER},
            "Effect": effect,
            "Condition": {operator: {key: value}},
        }
        owner["Action"] = "kms:*" if effect == "Deny" else "kms:PutKeyPolicy"
        judged["Action"] = "kms:Encrypt"
        policy = json.dumps({"Version": "2012-10-17", "Statement": [owner, judged]})
        key_id = kms.create_key(Policy=policy, Tags=tags)["KeyMetadata"]["KeyId"]  # type: ignore[arg-type]
        context = {"tenant": "a"}
        if granted:
            assert kms.encrypt(KeyId=key_id, Plaintext=b"x", EncryptionContext=context)["CiphertextBlob"]
        else:
            code, message = refusal(
                lambda: kms.encrypt(KeyId=key_id, Plaintext=b"x", EncryptionContext=context)  # noqa: B023 - called at once
            )
            assert code == "AccessDeniedException"
            assert message.endswith("with an explicit deny in a resource-based policy")
