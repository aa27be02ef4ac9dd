"""The wire dialects of AWS: Signature Version 4, JSON 1.1, faults, requests as service models have them."""

from cloister.aws.faults import Fault
from cloister.aws.json11 import (
    CONTENT_TYPE,
    decode_body,
    decode_fault,
    encode_fault,
    encode_result,
    read_target,
)
from cloister.aws.model import ServiceModel
from cloister.aws.shapes import Structure, decode_request
from cloister.aws.sigv4 import (
    Authorization,
    Request,
    canonical_request,
    derive_key,
    format_date,
    read_authorization,
    sign,
    verify,
)

__all__ = [
    "CONTENT_TYPE",
    "Authorization",
    "Fault",
    "Request",
    "ServiceModel",
    "Structure",
    "canonical_request",
    "decode_body",
    "decode_fault",
    "decode_request",
    "derive_key",
    "encode_fault",
    "encode_result",
    "format_date",
    "read_authorization",
    "read_target",
    "sign",
    "verify",
]
