"""Sign: a signature over a message or its digest."""

import base64
from typing import Any

from cloister.kms.call import Call
from cloister.kms.operation import Operation
from cloister.kms.outcome import end_dry_run
from cloister.kms.signatures import digest_of, permitted_key, sign_digest


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    key = permitted_key(call, members, "Sign")
    algorithm = members["SigningAlgorithm"]
    digest = digest_of(members)
    end_dry_run(members)
    signature = sign_digest(key, algorithm, digest)
    return {
        "KeyId": key.arn,
        "Signature": base64.b64encode(signature).decode(),
        "SigningAlgorithm": algorithm,
    }


OPERATION = Operation("Sign", _run)
