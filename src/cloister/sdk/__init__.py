"""What a program inside an enclave imports: attest, ask KMS for secrets, talk to the parent.

Synchronous; needs the standard library and ``cryptography`` alone; the same code talks to AWS.
"""

from cloister.aws import Fault
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
    "MAX_MESSAGE",
    "PARENT_CID",
    "AwsCredentials",
    "DataKey",
    "Fault",
    "HttpError",
    "KmsAnswerError",
    "KmsClient",
    "NsmDevice",
    "NsmError",
    "StreamError",
    "accept_parent",
    "attest",
    "open_nsm",
    "receive_message",
    "send_message",
    "through_proxy",
]
