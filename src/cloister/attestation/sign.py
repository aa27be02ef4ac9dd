"""Sign an attestation document as a Nitro Secure Module does.

Follows ``nitro-tools.md`` section 5.4: untagged COSE_Sign1, ES384, the fields in AWS's order, absent optional
fields as null, the time as milliseconds (always an 8-byte integer, being later than 19 February 1970).
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from cloister.attestation.document import Document
from cloister.cose import Sign1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Signer(Protocol):
    """An enclave's signing key with the certificates behind it."""

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The P-384 key that ``certificate`` certifies."""

    @property
    def certificate(self) -> bytes:
        """The enclave's certificate, DER."""

    @property
    def cabundle(self) -> tuple[bytes, ...]:
        """Its issuers, DER, root first."""


def sign(
    signer: Signer,
    *,
    module_id: str,
    now: datetime,
    pcrs: Mapping[int, bytes],
    user_data: bytes | None = None,
    nonce: bytes | None = None,
    public_key: bytes | None = None,
    indefinite: bool = True,
) -> bytes:
    """Return a signed document; ``indefinite=False`` gives the encoding that AWS used before June 2025."""
    document = Document(
        module_id=module_id,
        timestamp=(now - _EPOCH) // _MILLISECOND,
        pcrs=dict(pcrs),
        certificate=signer.certificate,
        cabundle=signer.cabundle,
        public_key=public_key,
        user_data=user_data,
        nonce=nonce,
    )
    return Sign1.sign(document.to_bytes(indefinite=indefinite), signer.key).to_bytes()
