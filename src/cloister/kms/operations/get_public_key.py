"""GetPublicKey: the public half of an asymmetric key."""

import base64
from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call
from cloister.kms.operation import Operation
from cloister.kms.signatures import public_key_info
from cloister.kms.specs import SYMMETRIC


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    key = call.find_key(members["KeyId"])
    call.authorise("kms:GetPublicKey", key)
    key.require_usable()
    if key.spec == SYMMETRIC:
        raise Fault(
            "UnsupportedOperationException", f"{key.arn} is not an asymmetric key: it has no public half."
        )
    return {
        "KeyId": key.arn,
        "PublicKey": base64.b64encode(public_key_info(key)).decode(),
        "CustomerMasterKeySpec": key.spec,
        "KeySpec": key.spec,
        "KeyUsage": key.usage,
        **key.algorithm_members(),
    }


OPERATION = Operation("GetPublicKey", _run)
