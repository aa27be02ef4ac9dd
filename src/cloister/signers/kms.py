"""A private key in KMS, AWS's or ours: named by its ARN, asked for one signature over a digest.

Region and key come from the ARN, which is passed on whole (image-format 0.7 and later); credentials and
endpoint come from where boto3 finds them, AWS_ENDPOINT_URL_KMS among them. Spec: nitro-tools 2.3.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cloister.eif import SignatureError, SignatureSection, sign_pcr0_elsewhere
from cloister.signers.certificate import SigningCertificate

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_kms.literals import SigningAlgorithmSpecType

KEY_ARN: Final = re.compile(r"arn:aws(?:[\-a-z]+)?:kms:([a-z0-9-]+):[0-9]{12}:key[:/][a-zA-Z0-9-]+")
_ALGORITHMS: Final[dict[str, "SigningAlgorithmSpecType"]] = {
    "secp256r1": "ECDSA_SHA_256",
    "secp384r1": "ECDSA_SHA_384",
    "secp521r1": "ECDSA_SHA_512",
}
_CONNECT_TIMEOUT, _READ_TIMEOUT, _ATTEMPTS = 10, 30, 3  # seconds, seconds, tries a call
_MAX_SHOWN: Final = 400


@dataclass(frozen=True, slots=True)
class KmsSigner:
    """A certificate, and the service that keeps its key."""

    certificate: SigningCertificate
    arn: str
    client: "KMSClient"

    @classmethod
    def open(cls, certificate: SigningCertificate, arn: str) -> "KmsSigner":
        """Ask for the public key, which must be the certificate's; raises SignatureError."""
        match = KEY_ARN.fullmatch(arn)
        if match is None:
            raise SignatureError(
                f"The private key {arn[:_MAX_SHOWN]} is not a KMS key's ARN: "
                "expected arn:aws:kms:REGION:ACCOUNT:key/ID."
            )
        with _told(arn):
            import boto3  # noqa: PLC0415 -- costs a third of a second that other signers need not pay
            from botocore.config import Config  # noqa: PLC0415

            config = Config(
                connect_timeout=_CONNECT_TIMEOUT,
                read_timeout=_READ_TIMEOUT,
                retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
            )
            client = boto3.Session().client("kms", region_name=match[1], config=config)
            told = client.get_public_key(KeyId=arn)["PublicKey"]
        try:
            public_key = load_der_public_key(told)
        except (ValueError, UnsupportedAlgorithm):
            raise SignatureError(f"KMS answered no public key that can be read for {arn}.") from None
        certificate.check(public_key)
        return cls(certificate, arn, client)

    def sign(self, pcr0: bytes) -> SignatureSection:
        """Have KMS sign; raises SignatureError."""
        return sign_pcr0_elsewhere(pcr0, self.certificate.pem, self._sign_digest)

    def _sign_digest(self, digest: bytes) -> bytes:
        curve = self.certificate.public_key.curve
        with _told(self.arn):
            answer = self.client.sign(
                KeyId=self.arn,
                Message=digest,
                MessageType="DIGEST",
                SigningAlgorithm=_ALGORITHMS[curve.name],
            )
        size = (curve.key_size + 7) // 8
        try:
            r, s = decode_dss_signature(answer["Signature"])
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        except (ValueError, OverflowError):
            raise SignatureError(f"KMS answered no ECDSA signature for {self.arn}.") from None


@contextmanager
def _told(arn: str) -> Iterator[None]:
    """Let a refusal, or not reaching the service at all, be a signature's failure in one sentence."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- as boto3

    try:
        yield
    except ClientError as error:
        code, message = (error.response.get("Error", {}).get(name, "") for name in ("Code", "Message"))
        raise SignatureError(
            f"KMS does not sign with {arn}: {_one_line(f'{code}: {message}' if message else str(code))}"
        ) from error
    except (BotoCoreError, ValueError, KeyError) as error:  # ValueError: an endpoint's URL that is none
        raise SignatureError(f"KMS cannot be asked to sign with {arn}: {_one_line(str(error))}") from error


def _one_line(text: str) -> str:
    """Return a stranger's text as the end of a sentence."""
    shown = "".join(character if character.isprintable() else " " for character in text[:_MAX_SHOWN])
    return f"{shown.strip().rstrip('.')}."
