"""CreateAlias: a name for a key; the caller needs the right on both."""

from typing import Any

from cloister.aws import Fault
from cloister.kms.call import Call
from cloister.kms.keys import alias_arn
from cloister.kms.operation import Operation
from cloister.kms.storage.store import Alias, AliasTakenError

_PREFIX_TEXT = (
    'Alias must start with the prefix "alias/". Please see '
    "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html"
)


def _run(call: Call, members: dict[str, Any]) -> dict[str, Any]:
    name = members["AliasName"]
    if not name.startswith("alias/") or name == "alias/":
        raise Fault("ValidationException", _PREFIX_TEXT)
    if name.startswith("alias/aws/"):
        raise Fault("NotAuthorizedException", "")
    if ":" in name:
        raise Fault("ValidationException", f"{name} contains invalid characters for an alias")
    arn = alias_arn(call.store.region, call.store.account, name)
    if "alias/" in members["TargetKeyId"]:
        raise Fault("ValidationException", "Aliases must refer to keys. Not aliases")
    key = call.find_key(members["TargetKeyId"])
    call.authorise("kms:CreateAlias", resource=arn)
    call.authorise("kms:CreateAlias", key)
    key.require_not_pending_deletion()
    try:
        call.store.add_alias(Alias(name=name, key_id=key.key_id, created=call.now))
    except AliasTakenError as error:
        raise Fault("AlreadyExistsException", f"An alias with the name {arn} already exists") from error
    return {}


OPERATION = Operation("CreateAlias", _run)
