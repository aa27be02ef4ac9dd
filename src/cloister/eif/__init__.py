"""The enclave image file: read strictly, written as a stream, signed and checked; pure.

What signs is loaded on first use, for it brings the cryptography along, which booting an unsigned image does
not need. Spec: nitro-tools section 2. Measuring is the neighbour's (``measure``); making images from trees is
``build``'s.
"""

from typing import TYPE_CHECKING, Any

from cloister.eif.header import EifError, EifHeader, SectionHeader
from cloister.eif.image import ChecksumError, Image
from cloister.eif.metadata import BuildMetadata, ImageMetadata
from cloister.eif.sections import Section, SectionSource, SectionType, Tap
from cloister.eif.signature import (
    CertificateExpiredError,
    PayloadMismatchError,
    SignatureError,
    SignatureSection,
)
from cloister.eif.writer import EifWriter, write_eif

if TYPE_CHECKING:
    from cloister.eif.signing import (
        check_dates,
        check_key,
        load_signing_certificate,
        sign_pcr0,
        sign_pcr0_elsewhere,
    )

__all__ = [
    "BuildMetadata",
    "CertificateExpiredError",
    "ChecksumError",
    "EifError",
    "EifHeader",
    "EifWriter",
    "Image",
    "ImageMetadata",
    "PayloadMismatchError",
    "Section",
    "SectionHeader",
    "SectionSource",
    "SectionType",
    "SignatureError",
    "SignatureSection",
    "Tap",
    "check_dates",
    "check_key",
    "load_signing_certificate",
    "sign_pcr0",
    "sign_pcr0_elsewhere",
    "write_eif",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cloister.eif import signing  # noqa: PLC0415 -- see above

    return getattr(signing, name)
