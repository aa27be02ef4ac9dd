"""Encrypt: a small plaintext under a key, bound to an encryption context."""

import base64
from typing import Any

from cloister.kms.call import Call, cryptographic_conditions
from cloister.kms.ciphertext import encrypt
from cloister.kms.operation import Operation
from cloister.kms.outcome import check_algorithm, end_dry_run
from cloister.kms.specs import ENCRYPT_DECRYPT, SYMMETRIC


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    key = call.find_key(members["KeyId"])
    algorithm = members.get("EncryptionAlgorithm", SYMMETRIC)
    call.authorise("kms:Encrypt", key, conditions=cryptographic_conditions(members, algorithm))
    key.require_usable()
    key.require_usage(ENCRYPT_DECRYPT, "Encrypt")
    check_algorithm(key, algorithm)
    end_dry_run(members)
    blob = encrypt(key.key_id, key.current, members["Plaintext"], members.get("EncryptionContext", {}))
    return {
        "CiphertextBlob": base64.b64encode(blob).decode(),
        "KeyId": key.arn,
        "EncryptionAlgorithm": algorithm,
    }


OPERATION = Operation("Encrypt", _run)
