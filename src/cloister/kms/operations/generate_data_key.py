"""GenerateDataKey: a fresh data key, in the clear or for an attested recipient, and under a KMS key."""

import base64
import secrets
from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call, cryptographic_conditions
from cloister.kms.ciphertext import encrypt
from cloister.kms.operation import Operation
from cloister.kms.outcome import deliver, end_dry_run
from cloister.kms.specs import ENCRYPT_DECRYPT, SYMMETRIC

_SIZES = {"AES_256": 32, "AES_128": 16}


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    if ("KeySpec" in members) == ("NumberOfBytes" in members):
        raise Fault("ValidationException", "Please specify either number of bytes or key spec.")
    call.admit_recipient(members)
    key = call.find_key(members["KeyId"])
    call.authorise("kms:GenerateDataKey", key, conditions=cryptographic_conditions(members, SYMMETRIC))
    key.require_usable()
    key.require_usage(ENCRYPT_DECRYPT, "GenerateDataKey")
    end_dry_run(members)
    size = members["NumberOfBytes"] if "NumberOfBytes" in members else _SIZES[members["KeySpec"]]
    data_key = secrets.token_bytes(size)
    blob = encrypt(key.key_id, key.current, data_key, members.get("EncryptionContext", {}))
    return {
        "CiphertextBlob": base64.b64encode(blob).decode(),
        **deliver(call, data_key),
        "KeyId": key.arn,
        "KeyMaterialId": key.current.material_id,
    }


OPERATION = Operation("GenerateDataKey", _run)
