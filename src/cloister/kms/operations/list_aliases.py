"""ListAliases: every alias of the account and region, or of one key, in pages."""

from typing import Any

from cloister.kms.call import Call
from cloister.kms.keys import alias_arn
from cloister.kms.operation import Operation

PAGE = 50


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    call.authorise("kms:ListAliases")
    key_id = call.find_key(members["KeyId"]).key_id if "KeyId" in members else None
    limit = members.get("Limit", PAGE)
    found = call.store.aliases(after=members.get("Marker", ""), limit=limit + 1, key_id=key_id)
    page = found[:limit]
    result: dict[str, Any] = {
        "Aliases": [
            {
                "AliasName": alias.name,
                "AliasArn": alias_arn(call.store.region, call.store.account, alias.name),
                "TargetKeyId": alias.key_id,
                "CreationDate": alias.created.timestamp(),
                "LastUpdatedDate": alias.created.timestamp(),
            }
            for alias in page
        ],
        "Truncated": len(found) > limit,
    }
    if result["Truncated"]:
        result["NextMarker"] = page[-1].name
    return result


OPERATION = Operation("ListAliases", _run)
