"""DescribeKey: a key's metadata."""

from typing import Any

from cloister.kms.call import Call
from cloister.kms.operation import Operation


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    key = call.find_key(members["KeyId"])
    call.authorise("kms:DescribeKey", key)
    return {"KeyMetadata": key.metadata()}


OPERATION = Operation("DescribeKey", _run)
