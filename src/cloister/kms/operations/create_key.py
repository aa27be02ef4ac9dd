"""CreateKey: a new key with its policy, material and tags."""

import secrets
import uuid
from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call
from cloister.kms.keys import Key, KeyState, Material, key_arn
from cloister.kms.operation import Operation
from cloister.kms.policies import admit_policy, check_lockout, default_policy
from cloister.kms.specs import ENCRYPT_DECRYPT, SPECS, SYMMETRIC

MAX_TAGS = 50


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    spec = members.get("KeySpec", members.get("CustomerMasterKeySpec", SYMMETRIC))
    usage = _usage(members, spec)
    _check_supported(members, spec, usage)
    tags = _tags(members)
    bypass = members.get("BypassPolicyLockoutSafetyCheck", False)
    conditions: dict[str, tuple[str, ...]] = {
        "kms:KeySpec": (spec,),
        "kms:KeyUsage": (usage,),
        "kms:KeyOrigin": (members.get("Origin", "AWS_KMS"),),
        "kms:MultiRegion": ("true" if members.get("MultiRegion") else "false",),
        "kms:BypassPolicyLockoutSafetyCheck": ("true" if bypass else "false",),
        **{f"aws:RequestTag/{name}": (value,) for name, value in tags.items()},
    }
    if tags:
        conditions["aws:TagKeys"] = tuple(tags)
        call.authorise("kms:TagResource", conditions=conditions)
    call.authorise("kms:CreateKey", conditions=conditions)
    policy = (
        admit_policy(call, members["Policy"]) if "Policy" in members else default_policy(call.store.account)
    )
    key_id = str(uuid.uuid4())
    material = Material(0, secrets.token_hex(32), SPECS[spec].new_secret())
    key = Key(
        key_id=key_id,
        arn=key_arn(call.store.region, call.store.account, key_id),
        account=call.store.account,
        region=call.store.region,
        spec=spec,
        usage=usage,
        origin="AWS_KMS",
        description=members.get("Description", ""),
        state=KeyState.ENABLED,
        created=call.now,
        deletion=None,
        policy=policy,
        materials={material.generation: material},
        tags=tags,
        aliases=(),
    )
    check_lockout(call, key, policy, bypass=bypass)
    call.store.add_key(key)
    call.key = key
    return {"KeyMetadata": key.metadata()}


def _usage(members: dict[str, Any], spec: str) -> str:
    """Return the key's usage, which only symmetric keys need not be given; raises Fault."""
    if "KeyUsage" not in members and spec != SYMMETRIC:
        raise Fault(
            "ValidationException",
            "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
        )
    usage: str = members.get("KeyUsage", ENCRYPT_DECRYPT)
    return usage


def _check_supported(members: dict[str, Any], spec: str, usage: str) -> None:
    """Refuse what this service does not make yet, and combinations that no key can have."""
    if "KeySpec" in members and "CustomerMasterKeySpec" in members:
        raise Fault(
            "ValidationException",
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. "
            "CustomerMasterKeySpec is deprecated.",
        )
    if spec not in SPECS:
        raise Fault("UnsupportedOperationException", f"KeySpec {spec} is not supported.")
    if usage == "KEY_AGREEMENT" and spec != SYMMETRIC:
        raise Fault("UnsupportedOperationException", f"KeyUsage {usage} is not supported.")
    if usage not in SPECS[spec].algorithms:
        raise Fault("ValidationException", f"KeyUsage {usage} is not compatible with KeySpec {spec}")
    if (
        members.get("Origin", "AWS_KMS") != "AWS_KMS"
        or "CustomKeyStoreId" in members
        or "XksKeyId" in members
    ):
        raise Fault(
            "UnsupportedOperationException",
            f"Origin {members.get('Origin', 'AWS_CLOUDHSM')} is not supported.",
        )
    if members.get("MultiRegion", False):
        raise Fault("UnsupportedOperationException", "Multi-Region keys are not supported.")


def _tags(members: dict[str, Any]) -> dict[str, str]:
    listed = members.get("Tags", [])
    tags = {tag["TagKey"]: tag["TagValue"] for tag in listed}
    if len(tags) != len(listed):
        raise Fault("TagException", "Duplicate tag keys")
    if any(name.lower().startswith("aws:") for name in tags):
        raise Fault("TagException", "Tags beginning with aws: are reserved")
    if len(tags) > MAX_TAGS:
        raise Fault("TagException", "Too many tags")
    return tags


OPERATION = Operation("CreateKey", _run)
