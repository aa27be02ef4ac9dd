"""A private key on a PKCS#11 token.

The names of the environment's variables are those that a proposal to AWS's image-format has (pull request 62,
not merged).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from cloister.eif import SignatureError, SignatureSection, sign_pcr0_elsewhere
from cloister.errors import CloisterError
from cloister.signers.certificate import SigningCertificate
from cloister.tokens import Ask, KeyOnToken, TokenUri

MODULE_VARIABLE: Final = "NITRO_CLI_PKCS11_MODULE"
PIN_VARIABLE: Final = "NITRO_CLI_PKCS11_PIN"


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """A certificate, and where its key lies."""

    certificate: SigningCertificate
    key: KeyOnToken

    @classmethod
    def open(cls, certificate: SigningCertificate, uri: str, ask: Ask) -> "TokenSigner":
        """Look the key up, which must be the certificate's; raises SignatureError.

        A token that keeps no public half beside the key tells only by its signature whose key it is.
        """
        with _told():
            where = TokenUri.parse(uri, module=os.environ.get(MODULE_VARIABLE))
            key = KeyOnToken(where, ask, (PIN_VARIABLE,))
            public_key = key.public_key()
        if public_key is not None:
            certificate.check(public_key)
        return cls(certificate, key)

    def sign(self, pcr0: bytes) -> SignatureSection:
        """Have the token sign; raises SignatureError."""
        with _told():
            return sign_pcr0_elsewhere(pcr0, self.certificate.pem, self.key.sign_digest)


@contextmanager
def _told() -> Iterator[None]:
    """Let what a token, or asking for its PIN, ends with be a signature's failure."""
    try:
        yield
    except SignatureError:
        raise
    except CloisterError as error:
        raise SignatureError(f"The key on the token cannot sign: {error.message}.") from error
