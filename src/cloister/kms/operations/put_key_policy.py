"""PutKeyPolicy: replace a key's policy, unless the caller would lock itself out."""

from typing import Any

from cloister.kms.call import Call
from cloister.kms.operation import Operation
from cloister.kms.operations.get_key_policy import check_policy_name
from cloister.kms.policies import admit_policy, check_lockout


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    check_policy_name(members)
    key = call.find_key(members["KeyId"])
    bypass = members.get("BypassPolicyLockoutSafetyCheck", False)
    conditions = {"kms:BypassPolicyLockoutSafetyCheck": ("true" if bypass else "false",)}
    call.authorise("kms:PutKeyPolicy", key, conditions=conditions)
    policy = admit_policy(call, members["Policy"])
    check_lockout(call, key, policy, bypass=bypass)
    call.store.set_policy(key.key_id, policy)
    return {}


OPERATION = Operation("PutKeyPolicy", _run)
