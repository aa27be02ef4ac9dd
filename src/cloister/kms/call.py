"""One call: who asks for what, the judgements passed on it, and the record that the decision log keeps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cloister.aws import Fault
from cloister.kms.keys import Key, alias_arn, key_arn
from cloister.kms.policy import AccessRequest, Caller, Decision, PolicyDocument, evaluate
from cloister.kms.recipient import Recipient, Trust
from cloister.kms.storage.store import Credential, Store

KEY_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call came from, as policies may ask."""

    source_ip: str | None
    user_agent: str
    secure: bool


@dataclass(slots=True)
class Call:
    """A call in progress; operations read it, ask it for keys, and have it judge."""

    store: Store
    trust: Trust
    now: datetime
    credential: Credential
    origin: Origin
    decisions: list[dict[str, Any]] = field(default_factory=list)
    key: Key | None = None
    alias: str | None = None
    recipient: Recipient | None = None

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.credential.caller

    def find_key(self, text: str) -> Key:
        """Return the key that a KeyId member names: id, ARN, alias name or alias ARN; raises Fault."""
        name = self._local_name(text)
        if name.startswith("alias/"):
            self.alias = name
            alias = self.store.alias(name)
            if alias is None:
                arn = alias_arn(self.store.region, self.store.account, name)
                raise Fault("NotFoundException", f"Alias {arn} is not found.")
            name = alias.key_id
        elif not KEY_ID.fullmatch(name):
            raise Fault("NotFoundException", f"Invalid keyId '{name}'")
        return self.key_by_id(name)

    def key_by_id(self, key_id: str) -> Key:
        """Return a key by its bare id; raises Fault NotFoundException."""
        key = self.store.key(key_id)
        if key is None:
            arn = key_arn(self.store.region, self.store.account, key_id)
            raise Fault("NotFoundException", f"Key '{arn}' does not exist")
        self.key = key
        return key

    def _local_name(self, text: str) -> str:
        """Strip an ARN of this service's region and account down to key id or alias."""
        if not text.startswith("arn:"):
            return text
        parts = text.split(":", 5)
        if len(parts) < 6 or parts[2] != "kms":
            raise Fault("InvalidArnException", f"Invalid arn {text}")
        if parts[3] != self.store.region:
            raise Fault("NotFoundException", f"Invalid arn {parts[3]}")
        if parts[4] != self.store.account:
            raise Fault("NotFoundException", f"Key '{text}' does not exist")
        return parts[5].removeprefix("key/")

    def admit_recipient(self, members: Mapping[str, Any]) -> Recipient | None:
        """Verify the request's Recipient, if it has one; raises Fault ValidationException."""
        if "Recipient" in members:
            self.recipient = Recipient.admit(members["Recipient"], self.trust, self.now)
        return self.recipient

    def authorise(
        self,
        action: str,
        key: Key | None = None,
        *,
        resource: str | None = None,
        conditions: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Judge one action and keep the judgement; raises Fault AccessDeniedException.

        With a key its policy counts; without one the caller's identity policies decide alone.
        """
        target = key.arn if key is not None else resource
        decision = self.judge(
            action, key, key.policy if key else None, resource=target, conditions=conditions
        )
        self.decisions.append(
            {
                "action": action,
                "resource": target or "*",
                "allowed": decision.allowed,
                "reason": decision.reason,
                "statements": [statement.to_json() for statement in decision.statements],
            }
        )
        if not decision.allowed:
            where = f" on resource: {target}" if target else ""
            raise Fault(
                "AccessDeniedException",
                f"User: {self.caller.arn} is not authorized to perform: {action}{where} {decision.reason}",
            )

    def judge(
        self,
        action: str,
        key: Key | None,
        policy: PolicyDocument | None,
        *,
        resource: str | None = None,
        conditions: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Decision:
        """Judge one action under a given key policy, without keeping the judgement."""
        context = {**self._condition_keys(key), **(conditions or {})}
        lowered = {name.lower(): values for name, values in context.items()}
        request = AccessRequest(action=action, resource=resource or "*", context=lowered)
        return evaluate(request, self.caller, policy, self.store.account)

    def _condition_keys(self, key: Key | None) -> dict[str, tuple[str, ...]]:
        """Return the context every action has; an absent fact is an absent key."""
        caller, now = self.caller, self.now.astimezone(UTC)
        kind, _, name = caller.principal_arns[-1].rpartition(":")[2].partition("/")
        context: dict[str, tuple[str, ...]] = {
            "aws:PrincipalArn": (caller.principal_arns[-1],),
            "aws:PrincipalAccount": (caller.account,),
            "aws:PrincipalType": ("AssumedRole" if kind == "role" else "User",),
            "aws:userid": (self.credential.unique_id,),
            "aws:CurrentTime": (now.strftime("%Y-%m-%dT%H:%M:%SZ"),),
            "aws:EpochTime": (str(int(now.timestamp())),),
            "aws:SecureTransport": (_boolean(self.origin.secure),),
            "aws:UserAgent": (self.origin.user_agent,),
            "aws:RequestedRegion": (self.store.region,),
            "aws:ViaAWSService": ("false",),
            "aws:PrincipalIsAWSService": ("false",),
            "kms:CallerAccount": (caller.account,),
        }
        if kind == "user":
            context["aws:username"] = (name.rpartition("/")[2],)
        if self.origin.source_ip is not None:
            context["aws:SourceIp"] = (self.origin.source_ip,)
        if self.recipient is not None:
            context.update(self.recipient.condition_keys())
        if key is not None:
            context.update(_key_conditions(key))
            if self.alias is not None:
                context["kms:RequestAlias"] = (self.alias,)
        return context


def _key_conditions(key: Key) -> dict[str, tuple[str, ...]]:
    context: dict[str, tuple[str, ...]] = {
        "aws:ResourceAccount": (key.account,),
        "kms:KeySpec": (key.spec,),
        "kms:CustomerMasterKeySpec": (key.spec,),
        "kms:KeyUsage": (key.usage,),
        "kms:CustomerMasterKeyUsage": (key.usage,),
        "kms:KeyOrigin": (key.origin,),
        "kms:MultiRegion": (_boolean(key.multi_region),),
        "kms:ResourceAliases": key.aliases,
    }
    context.update({f"aws:ResourceTag/{name}": (value,) for name, value in key.tags.items()})
    return context


def cryptographic_conditions(members: Mapping[str, Any], algorithm: str) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of an encryption: its algorithm and its encryption context."""
    context: Mapping[str, str] = members.get("EncryptionContext", {})
    if len({name.lower() for name in context}) != len(context):
        # Condition key names ignore case: two context keys that differ in case alone could not be told apart.
        raise Fault("ValidationException", "EncryptionContext has keys that differ only by case.")
    conditions: dict[str, tuple[str, ...]] = {
        f"kms:EncryptionContext:{name}": (value,) for name, value in context.items()
    }
    if context:
        conditions["kms:EncryptionContextKeys"] = tuple(context)
    conditions["kms:EncryptionAlgorithm"] = (algorithm,)
    return conditions


def signing_conditions(members: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of a signature: its algorithm, and what the message is."""
    return {
        "kms:SigningAlgorithm": (members["SigningAlgorithm"],),
        "kms:MessageType": (members.get("MessageType", "RAW"),),
    }


def _boolean(value: bool) -> str:
    return "true" if value else "false"
