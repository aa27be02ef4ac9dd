"""EnableKey: let a disabled key work again."""

from typing import Any

from cloister.kms.call import Call
from cloister.kms.keys import KeyState
from cloister.kms.operation import Operation


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    key = call.find_key(members["KeyId"])
    call.authorise("kms:EnableKey", key)
    key.require_not_pending_deletion()
    call.store.set_state(key.key_id, KeyState.ENABLED)
    return {}


OPERATION = Operation("EnableKey", _run)
