"""Decrypt: open a CiphertextBlob, for the caller or for an attested recipient alone."""

from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call, cryptographic_conditions
from cloister.kms.ciphertext import Ciphertext
from cloister.kms.operation import Operation
from cloister.kms.outcome import check_algorithm, deliver, end_dry_run
from cloister.kms.specs import ENCRYPT_DECRYPT, SYMMETRIC

_UNKNOWN_KEY = (
    "The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
    "or you are not allowed to access."
)


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    if "CiphertextBlob" not in members:
        raise Fault("ValidationException", "CiphertextBlob is required.")
    call.admit_recipient(members)
    ciphertext = Ciphertext.from_bytes(members["CiphertextBlob"])
    if "KeyId" in members:
        key = call.find_key(members["KeyId"])
        if key.key_id != ciphertext.key_id:
            call.authorise("kms:Decrypt", key, conditions=cryptographic_conditions(members, SYMMETRIC))
            raise Fault(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this operation.",
            )
    else:
        found = call.store.key(ciphertext.key_id)
        if found is None:
            raise Fault("AccessDeniedException", _UNKNOWN_KEY)
        key = call.key = found
    algorithm = members.get("EncryptionAlgorithm", SYMMETRIC)
    call.authorise("kms:Decrypt", key, conditions=cryptographic_conditions(members, algorithm))
    key.require_usable()
    key.require_usage(ENCRYPT_DECRYPT, "Decrypt")
    check_algorithm(key, algorithm)
    material = key.materials.get(ciphertext.generation)
    if material is None:
        raise Fault("InvalidCiphertextException")
    plaintext = ciphertext.open(material, members.get("EncryptionContext", {}))
    end_dry_run(members)
    return {
        "KeyId": key.arn,
        **deliver(call, plaintext),
        "EncryptionAlgorithm": algorithm,
        "KeyMaterialId": material.material_id,
    }


OPERATION = Operation("Decrypt", _run)
