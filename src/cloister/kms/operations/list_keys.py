"""ListKeys: every key of the account and region, in pages."""

from typing import Any

from cloister.kms.call import Call
from cloister.kms.keys import key_arn
from cloister.kms.operation import Operation

PAGE = 100


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    call.authorise("kms:ListKeys")
    limit = members.get("Limit", PAGE)
    found = call.store.keys(after=members.get("Marker", ""), limit=limit + 1)
    page = found[:limit]
    region, account = call.store.region, call.store.account
    result: dict[str, Any] = {
        "Keys": [{"KeyId": key_id, "KeyArn": key_arn(region, account, key_id)} for key_id in page],
        "Truncated": len(found) > limit,
    }
    if result["Truncated"]:
        result["NextMarker"] = page[-1]
    return result


OPERATION = Operation("ListKeys", _run)
