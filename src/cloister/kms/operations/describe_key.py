"""DescribeKey: a key's metadata."""

from typing import Any

from cloister.kms.call import Call
from cloister.kms.operation import Operation
from cloister.kms.requests.members import GRANT_TOKENS, KEY_ID
from cloister.kms.requests.shapes import Structure


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    key = call.find_key(members["KeyId"])
    call.authorise("kms:DescribeKey", key)
    return {"KeyMetadata": key.metadata()}


OPERATION = Operation(
    "DescribeKey", Structure({"KeyId": KEY_ID, "GrantTokens": GRANT_TOKENS}, required=("KeyId",)), _run
)
