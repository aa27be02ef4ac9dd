"""ScheduleKeyDeletion: end a key's use at once; its material goes when the waiting time is over."""

from datetime import timedelta
from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call
from cloister.kms.keys import KeyState
from cloister.kms.operation import Operation

LEAST_DAYS, MOST_DAYS = 7, 30


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    days = members.get("PendingWindowInDays", MOST_DAYS)
    if not LEAST_DAYS <= days <= MOST_DAYS:
        raise Fault(
            "ValidationException", f"PendingWindowInDays must be between {LEAST_DAYS} and {MOST_DAYS} days."
        )
    key = call.find_key(members["KeyId"])
    conditions = {"kms:ScheduleKeyDeletionPendingWindowInDays": (str(days),)}
    call.authorise("kms:ScheduleKeyDeletion", key, conditions=conditions)
    key.require_not_pending_deletion()
    deletion = call.now + timedelta(days=days)
    call.store.set_state(key.key_id, KeyState.PENDING_DELETION, deletion)
    return {
        "KeyId": key.arn,
        "DeletionDate": deletion.timestamp(),
        "KeyState": KeyState.PENDING_DELETION.value,
        "PendingWindowInDays": days,
    }


OPERATION = Operation("ScheduleKeyDeletion", _run)
