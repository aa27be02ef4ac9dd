"""GenerateRandom: random bytes; no key, so identity policies alone decide."""

import secrets
from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call
from cloister.kms.operation import Operation
from cloister.kms.outcome import deliver


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    if "NumberOfBytes" not in members:
        raise Fault("ValidationException", "NumberOfBytes is required.")
    call.admit_recipient(members)
    call.authorise("kms:GenerateRandom")
    if "CustomKeyStoreId" in members:
        raise Fault("CustomKeyStoreNotFoundException", "")
    return dict(deliver(call, secrets.token_bytes(members["NumberOfBytes"])))


OPERATION = Operation("GenerateRandom", _run)
