"""Images signed by KMS: our own service, reached through boto3 as AWS's would be."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from mypy_boto3_kms.literals import KeySpecType

from cloister.build import Signer, sign_image
from cloister.eif import SignatureError
from cloister.kms import read_decisions
from cloister.signers import open_signer
from simulators.canned_kms import canned_kms
from simulators.key_service import Server
from simulators.openssl_check import openssl_check
from simulators.signing_keys import issued

KEY = ec.generate_private_key(ec.SECP384R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
STRANGER = ec.generate_private_key(ec.SECP384R1())
ECDSA = ec.ECDSA(hashes.SHA384())


def nobody(token: str) -> str:
    raise AssertionError(f"no PIN belongs to KMS, but {token} was asked for one")


def make_key(service: Server, directory: Path, spec: KeySpecType = "ECC_NIST_P384", policy: str = "") -> str:
    """Make a key and write its certificate; return the key's ARN."""
    kms = service.client()
    with_policy = {"Policy": policy} if policy else {}
    arn = kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY", **with_policy)["KeyMetadata"]["Arn"]  # type: ignore[arg-type]
    public_key = load_der_public_key(kms.get_public_key(KeyId=arn)["PublicKey"])
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    (directory / "certificate.pem").write_bytes(issued(public_key))
    return arn


def opened(directory: Path, arn: str) -> Signer:
    return open_signer(directory / "certificate.pem", arn, now=datetime.now(UTC), ask=nobody)


@pytest.mark.parametrize("spec", ["ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"])
def test_kms_signs_images(aws: Server, image: Path, tmp_path: Path, spec: KeySpecType) -> None:
    """GetPublicKey and then Sign over a digest make a signature that OpenSSL accepts."""
    signer = opened(tmp_path, make_key(aws, tmp_path, spec))
    measured = sign_image(image, signer)
    assert openssl_check(image) == {"PCR0": measured.pcr0, "PCR8": measured.pcr8}
    asked = [record["operation"] for record in read_decisions(aws.decision_log)]
    assert asked[-2:] == ["GetPublicKey", "Sign"]


def test_a_refusal_leaves_the_image_alone(aws: Server, image: Path, tmp_path: Path) -> None:
    """A policy that allows signing to nobody is told as KMS tells it, and the file stays as it was."""
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::000000000000:user/administrator"},
        "Action": ["kms:GetPublicKey", "kms:PutKeyPolicy"],
        "Resource": "*",
    }
    arn = make_key(aws, tmp_path, policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    signer, before = opened(tmp_path, arn), image.read_bytes()
    with pytest.raises(
        SignatureError, match=r"KMS does not sign with .*: AccessDeniedException: .* kms:Sign "
    ):
        sign_image(image, signer)
    assert image.read_bytes() == before
    assert list(image.parent.iterdir()) == [image]


def test_what_cannot_sign_is_found_when_it_is_opened(
    aws: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another's key, one that is disabled, one that encrypts, none at all, no region of ours, no ARN."""
    kms = aws.client()
    arn = make_key(aws, tmp_path)
    other = kms.create_key(KeySpec="ECC_NIST_P384", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    disabled = kms.create_key(KeySpec="ECC_NIST_P384", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=disabled)
    symmetric = kms.create_key()["KeyMetadata"]["Arn"]
    cases = {
        other: "private key does not belong to the signing certificate",
        disabled: f"DisabledException: {disabled} is disabled",
        symmetric: "UnsupportedOperationException",
        arn[:-4] + "0000": "NotFoundException: Key '.*' does not exist",
        arn.replace("us-east-1", "eu-west-1"): "KMS does not sign with .*eu-west-1",
        arn.replace("key/", "alias/"): "is not a KMS key's ARN: expected arn:aws:kms:REGION:ACCOUNT:key/ID",
        "arn:aws:kms:x:1:key/2": "is not a KMS key's ARN",
    }
    for named, sentence in cases.items():
        with pytest.raises(SignatureError, match=sentence) as refused:
            opened(tmp_path, named)
        assert "\n" not in str(refused.value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(
        SignatureError, match=r"cannot be asked to sign with .*: Unable to locate credentials"
    ):
        opened(tmp_path, arn)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(aws.credentials_file("enclave")))
    with pytest.raises(SignatureError, match=r"AccessDeniedException: .* kms:GetPublicKey"):
        opened(tmp_path, arn)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "nowhere")
    with pytest.raises(SignatureError, match=r"cannot be asked to sign with .*: Invalid endpoint: nowhere"):
        opened(tmp_path, arn)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws-cn:kms:cn-north-1:000000000000:key/0",
        "arn:aws-us-gov:kms:us-gov-west-1:000000000000:key/0",
        "arn:aws-iso-b:kms:us-isob-east-1:000000000000:key:0",
        "arn:aws:kms:us-east-1:000000000000:key/mrk-00000000000000000000000000000000",
    ],
)
def test_arns_of_every_partition_are_understood(aws: Server, tmp_path: Path, arn: str) -> None:
    """The ARN is a key's in whatever partition; that this service has none of it, the service says."""
    make_key(aws, tmp_path)
    with pytest.raises(SignatureError, match=f"KMS does not sign with {arn}"):
        opened(tmp_path, arn)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ((b"nothing", b""), "KMS answered no public key that can be read"),
        ((SPKI, b"nothing"), "KMS answered no ECDSA signature"),
        ((SPKI, encode_dss_signature(1 << 400, 1)), "KMS answered no ECDSA signature"),
        ((SPKI, encode_dss_signature(1, 1)), "does not belong .*: its signature does not verify"),
        ((SPKI, STRANGER.sign(b"", ECDSA)), "its signature does not verify"),
    ],
    ids=["no key", "no signature", "too long", "wrong", "another's"],
)
def test_answers_are_not_believed(
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: tuple[bytes, bytes],
    sentence: str,
) -> None:
    """A service that answers nonsense, or with a signature that does not hold, leaves the image alone."""
    (tmp_path / "certificate.pem").write_bytes(issued(KEY.public_key()))
    before = image.read_bytes()
    with canned_kms(*answers) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", endpoint)
        with pytest.raises(SignatureError, match=sentence):
            sign_image(image, opened(tmp_path, "arn:aws:kms:us-east-1:000000000000:key/0"))
    assert image.read_bytes() == before
    assert list(image.parent.iterdir()) == [image]
