"""Sign: a signature over a message or its digest."""

import base64
from typing import Any

from cloister.kms.call import Call, signing_conditions
from cloister.kms.operation import Operation
from cloister.kms.outcome import check_algorithm, end_dry_run
from cloister.kms.requests.members import (
    BOOLEAN,
    GRANT_TOKENS,
    KEY_ID,
    MESSAGE_TYPE,
    PLAINTEXT,
    SIGNING_ALGORITHM,
)
from cloister.kms.requests.shapes import Structure
from cloister.kms.signatures import digest_of, sign_digest
from cloister.kms.specs import SIGN_VERIFY


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    key = call.find_key(members["KeyId"])
    algorithm = members["SigningAlgorithm"]
    call.authorise("kms:Sign", key, conditions=signing_conditions(members))
    key.require_usable()
    key.require_usage(SIGN_VERIFY, "Sign")
    check_algorithm(key, algorithm)
    digest = digest_of(members)
    end_dry_run(members)
    signature = sign_digest(key, algorithm, digest)
    return {
        "KeyId": key.arn,
        "Signature": base64.b64encode(signature).decode(),
        "SigningAlgorithm": algorithm,
    }


OPERATION = Operation(
    "Sign",
    Structure(
        {
            "KeyId": KEY_ID,
            "Message": PLAINTEXT,
            "MessageType": MESSAGE_TYPE,
            "GrantTokens": GRANT_TOKENS,
            "SigningAlgorithm": SIGNING_ALGORITHM,
            "DryRun": BOOLEAN,
        },
        required=("KeyId", "Message", "SigningAlgorithm"),
    ),
    _run,
)
