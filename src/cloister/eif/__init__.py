"""The enclave image file: read strictly, written as a stream, signed and checked; pure.

Spec: nitro-tools section 2. Measuring is the neighbour's (``measure``); making images from trees is
``build``'s.
"""

from cloister.eif.header import EifError, EifHeader, SectionHeader
from cloister.eif.image import ChecksumError, Image
from cloister.eif.metadata import BuildMetadata, ImageMetadata
from cloister.eif.sections import Section, SectionSource, SectionType
from cloister.eif.signature import (
    CertificateExpiredError,
    PayloadMismatchError,
    SignatureError,
    SignatureSection,
    check_dates,
    load_signing_certificate,
    sign_pcr0,
)
from cloister.eif.writer import EifWriter, write_eif

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
    "check_dates",
    "load_signing_certificate",
    "sign_pcr0",
    "write_eif",
]
