"""Which signer an argument names."""

from datetime import datetime
from pathlib import Path

from cloister.build import Signer
from cloister.signers.certificate import SigningCertificate
from cloister.signers.kms import KmsSigner
from cloister.signers.pem import PemSigner
from cloister.signers.token import TokenSigner
from cloister.tokens import Ask


def open_signer(certificate: Path, private_key: str, *, now: datetime, ask: Ask) -> Signer:
    """Open the signer of a PKCS#11 URI, a KMS key's ARN or a PEM file; raises SignatureError or BuildError.

    ``ask`` is asked for a token's PIN.
    """
    signing = SigningCertificate.load(certificate, now)
    if private_key.startswith("pkcs11:"):
        return TokenSigner.open(signing, private_key, ask)
    if private_key.startswith("arn:"):
        return KmsSigner.open(signing, private_key)
    return PemSigner.open(signing, Path(private_key))
