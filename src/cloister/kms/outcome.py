"""How cryptographic operations end: a dry run, plaintext, or plaintext sealed to an attested recipient."""

import base64
from collections.abc import Mapping
from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call
from cloister.kms.keys import Key


def end_dry_run(members: Mapping[str, Any]) -> None:
    """Stop here when only the permission was asked; raises Fault DryRunOperationException."""
    if members.get("DryRun", False):
        raise Fault(
            "DryRunOperationException", "The request would have succeeded, but the DryRun option is set."
        )


def check_algorithm(key: Key, algorithm: str) -> None:
    """Refuse an algorithm that a key cannot do; raises Fault InvalidKeyUsageException."""
    if algorithm not in key.algorithms:
        raise Fault(
            "InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {key.spec}."
        )


def deliver(call: Call, plaintext: bytes) -> dict[str, str]:
    """Return the plaintext's member of a result: in the clear, or sealed when there is a Recipient.

    With a Recipient, Plaintext is left out; AWS's text has it "null or empty".
    """
    if call.recipient is None:
        return {"Plaintext": base64.b64encode(plaintext).decode()}
    return {"CiphertextForRecipient": base64.b64encode(call.recipient.seal(plaintext)).decode()}
