"""What a program inside an enclave imports: attest, ask KMS for secrets, talk to the parent.

Synchronous; needs the standard library and ``cryptography`` alone; the same code talks to AWS.
"""

from cloister.aws import Fault
from cloister.sdk.attestation_protocol import (
    ATTESTATION_PORT,
    NONCE_SIZES,
    AttestationRequestError,
    ask_enclave,
    request_attestation,
)
from cloister.sdk.attestation_service import Binding, serve_attestation
from cloister.sdk.device import NsmDevice, NsmError, attest, open_nsm
from cloister.sdk.http_client import HttpError
from cloister.sdk.kms import AwsCredentials, DataKey, KmsAnswerError, KmsClient, through_proxy
from cloister.sdk.streams import (
    MAX_MESSAGE,
    PARENT_CID,
    StreamError,
    accept_parent,
    receive_message,
    send_message,
)

__all__ = [
    "ATTESTATION_PORT",
    "MAX_MESSAGE",
    "NONCE_SIZES",
    "PARENT_CID",
    "AttestationRequestError",
    "AwsCredentials",
    "Binding",
    "DataKey",
    "Fault",
    "HttpError",
    "KmsAnswerError",
    "KmsClient",
    "NsmDevice",
    "NsmError",
    "StreamError",
    "accept_parent",
    "ask_enclave",
    "attest",
    "open_nsm",
    "receive_message",
    "request_attestation",
    "send_message",
    "serve_attestation",
    "through_proxy",
]
