"""Verify: whether a signature is a key's own over a message or its digest."""

from typing import Any

from cloister.kms.call import Call
from cloister.kms.operation import Operation
from cloister.kms.outcome import end_dry_run
from cloister.kms.signatures import digest_of, permitted_key, verify_digest


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    key = permitted_key(call, members, "Verify")
    algorithm = members["SigningAlgorithm"]
    digest = digest_of(members)
    verify_digest(key, algorithm, digest, members["Signature"])
    end_dry_run(members)
    return {"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm}


OPERATION = Operation("Verify", _run)
