"""Who signs images: a key in a PEM file, on a PKCS#11 token, or in KMS, each behind ``build``'s Signer.

Every signer is opened before anything is built, and with it certificate, dates, curve and key are checked: a
build of minutes does not end in a refusal that could have been told at its start. Spec: nitro-tools 2.3.
"""

from cloister.signers.certificate import SigningCertificate
from cloister.signers.kms import KmsSigner
from cloister.signers.opening import open_signer
from cloister.signers.pem import PemSigner
from cloister.signers.token import MODULE_VARIABLE, PIN_VARIABLE, TokenSigner

__all__ = [
    "MODULE_VARIABLE",
    "PIN_VARIABLE",
    "KmsSigner",
    "PemSigner",
    "SigningCertificate",
    "TokenSigner",
    "open_signer",
]
