"""A statement for a KMS key policy that one image alone, or one signer's images alone, may use.

Condition keys: AWS KMS developer guide, "AWS KMS condition keys for AWS Nitro Enclaves"
(``kms:RecipientAttestation:PCRn``, compared with ``StringEqualsIgnoreCase`` as its examples do).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

RECIPIENT_ACTIONS: Final = (
    "kms:Decrypt",
    "kms:DeriveSharedSecret",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
    "kms:GenerateRandom",
)
"""The operations that take a Recipient; in no other does KMS see the condition keys."""


def key_policy_statement(
    registers: Mapping[int, bytes], *, sid: str, principals: Sequence[str], actions: Sequence[str]
) -> dict[str, Any]:
    """Return the statement: these principals, these actions, where all of these registers are attested."""
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": principals[0] if len(principals) == 1 else list(principals)},
        "Action": actions[0] if len(actions) == 1 else list(actions),
        "Resource": "*",
        "Condition": {
            "StringEqualsIgnoreCase": {
                f"kms:RecipientAttestation:PCR{index}": value.hex()
                for index, value in sorted(registers.items())
            }
        },
    }
