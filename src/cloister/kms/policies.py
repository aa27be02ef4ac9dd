"""Key policies on their way in: grammar, principals that exist, and the lockout check.

Follows the AWS KMS developer guide, "Key policies in AWS KMS" and "Default key policy".
"""

import json
from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call
from cloister.kms.keys import Key
from cloister.kms.policy import PolicyDocument, PolicyError

LOCKOUT = "The new key policy will not allow you to update the key policy in the future."


def default_policy(account: str) -> PolicyDocument:
    """Return the policy of a key that was created without one."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return PolicyDocument.key_policy(
        write_policy({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]})
    )


def admit_policy(call: Call, text: str) -> PolicyDocument:
    """Parse a new key policy; raises Fault MalformedPolicyDocumentException."""
    try:
        policy = PolicyDocument.key_policy(text)
    except PolicyError as error:
        raise Fault("MalformedPolicyDocumentException", error.message) from error
    for principal in policy.principals():
        if not _exists(call, principal):
            raise Fault(
                "MalformedPolicyDocumentException",
                f"Policy contains a statement with one or more invalid principals: no {principal} exists.",
            )
    return PolicyDocument.key_policy(write_policy(_normalise(json.loads(text))), kept=True)


def check_lockout(call: Call, key: Key, policy: PolicyDocument, *, bypass: bool) -> None:
    """Refuse a policy under which the caller could not change it again; raises Fault."""
    decision = call.judge("kms:PutKeyPolicy", key, policy, resource=key.arn)
    if not bypass and not decision.allowed:
        raise Fault("MalformedPolicyDocumentException", LOCKOUT)


def write_policy(document: dict[str, Any]) -> str:
    """Return a policy in the layout that GetKeyPolicy shows."""
    return json.dumps(document, indent=2, separators=(",", " : "))


def _exists(call: Call, principal: str) -> bool:
    """Tell whether a user or role of this account exists; other accounts are not ours to know."""
    account = call.store.account
    if principal.startswith(f"arn:aws:sts::{account}:assumed-role/"):
        role = principal.split("/")[1]
        return call.store.has_identity(f"arn:aws:iam::{account}:role/{role}")
    if principal.startswith(f"arn:aws:iam::{account}:") and not principal.endswith(":root"):
        return call.store.has_identity(principal)
    return True


def _normalise(document: dict[str, Any]) -> dict[str, Any]:
    """Write a bare ``"*"`` principal as ``{"AWS": "*"}`` and Statement as a list, as AWS reads them back."""
    statements = document["Statement"]
    statements = [statements] if isinstance(statements, dict) else statements
    for statement in statements:
        for element in ("Principal", "NotPrincipal"):
            if statement.get(element) == "*":
                statement[element] = {"AWS": "*"}
    return {**document, "Statement": statements}
