"""GetKeyPolicy: a key's policy; the only name one can have is ``default``."""

from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call
from cloister.kms.operation import Operation

POLICY_NAMED = "default"


def check_policy_name(members: dict[str, Any]) -> None:
    """Refuse any other name; raises Fault NotFoundException."""
    if members.get("PolicyName", POLICY_NAMED) != POLICY_NAMED:
        raise Fault("NotFoundException", "No such policy exists")


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    key = call.find_key(members["KeyId"])
    call.authorise("kms:GetKeyPolicy", key)
    check_policy_name(members)
    return {"Policy": key.policy.text, "PolicyName": POLICY_NAMED}


OPERATION = Operation("GetKeyPolicy", _run)
