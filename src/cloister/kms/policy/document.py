"""A policy document, parsed strictly: what cannot be understood is refused, not skipped.

Follows the IAM User Guide, "Grammar of the IAM JSON policy language", for key policies (with Principal) and
identity policies (without).
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloister.errors import CloisterError
from cloister.kms.policy.conditions import Condition, parse_operator

VERSIONS = ("2012-10-17", "2008-10-17")
MAX_SIZE = 32768  # resource quota "Key policy document size", AWS KMS developer guide
MAX_STATEMENTS = 1000
_ACTION = re.compile(r"\*|[A-Za-z0-9*?-]+:[A-Za-z0-9*?]+")
_PRINCIPAL = re.compile(
    r"\*|[0-9]{12}|arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:(root|(user|role|assumed-role|federated-user)/[\x21-\x7e]+)"
)


class PolicyError(CloisterError):
    """A policy that breaks the grammar."""


@dataclass(frozen=True, slots=True)
class Principals:
    """The Principal element: AWS principals, or ones that no caller here can be."""

    aws: tuple[str, ...]
    foreign: tuple[str, ...] = ()
    """Services, federated and canonical users, as ``Kind:name``."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; of each pair (Action/NotAction and so on) ``negated`` tells which it is."""

    index: int
    sid: str
    effect: str
    principals: Principals | None
    not_principal: bool
    actions: tuple[str, ...]
    not_action: bool
    resources: tuple[str, ...]
    not_resource: bool
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A parsed policy and its JSON."""

    version: str
    statements: tuple[Statement, ...]
    text: str

    @classmethod
    def key_policy(cls, text: str, *, kept: bool = False) -> "PolicyDocument":
        """Parse a key policy: every statement names principals; raises PolicyError.

        The limit is for what a caller sends; as it is ``kept``, laid out for GetKeyPolicy, it is longer.
        """
        return _parse(text, with_principal=True, limit=None if kept else MAX_SIZE)

    @classmethod
    def identity_policy(cls, text: str) -> "PolicyDocument":
        """Parse an identity policy: no statement names principals; raises PolicyError."""
        return _parse(text, with_principal=False, limit=MAX_SIZE)

    @property
    def variables(self) -> bool:
        """Whether ``${...}`` means a variable: only in the later version of the language."""
        return self.version == VERSIONS[0]

    def principals(self) -> tuple[str, ...]:
        """Return every AWS principal that some statement names."""
        return tuple(p for s in self.statements if s.principals is not None for p in s.principals.aws)


def _parse(text: str, *, with_principal: bool, limit: int | None) -> PolicyDocument:
    if limit is not None and len(text) > limit:
        raise PolicyError(f"The policy has {len(text)} characters; at most {limit} are allowed.")
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise PolicyError("The policy is not valid JSON.") from error
    if not isinstance(document, dict):
        raise PolicyError("The policy must be a JSON object.")
    _only(document, {"Version", "Id", "Statement"}, "The policy")
    version = document.get("Version", VERSIONS[1])
    if version not in VERSIONS:
        raise PolicyError(f"The policy's Version is '{version}'; it must be one of {', '.join(VERSIONS)}.")
    if not isinstance(document.get("Id", ""), str):
        raise PolicyError("The policy's Id must be a string.")
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not 0 < len(statements) <= MAX_STATEMENTS:
        raise PolicyError("The policy must have at least one statement.")
    parsed = tuple(_statement(i, s, with_principal=with_principal) for i, s in enumerate(statements))
    sids = [s.sid for s in parsed if s.sid]
    if len(set(sids)) != len(sids):
        raise PolicyError("Statement IDs (SID) in a single policy must be unique.")
    return PolicyDocument(version=version, statements=parsed, text=text)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _only(members: dict[str, Any], known: set[str], owner: str) -> None:
    unknown = sorted(set(members) - known)
    if unknown:
        raise PolicyError(f"{owner} has an unknown element '{unknown[0]}'.")


_ELEMENTS = {"Sid", "Effect", "Condition"} | {
    prefix + name for name in ("Principal", "Action", "Resource") for prefix in ("", "Not")
}


def _statement(index: int, value: Any, *, with_principal: bool) -> Statement:
    owner = f"Statement {index + 1}"
    if not isinstance(value, dict):
        raise PolicyError(f"{owner} must be a JSON object.")
    _only(value, _ELEMENTS, owner)
    sid, effect = value.get("Sid", ""), value.get("Effect")
    if not isinstance(sid, str):
        raise PolicyError(f"{owner}'s Sid must be a string.")
    if effect not in ("Allow", "Deny"):
        raise PolicyError(f"{owner}'s Effect must be Allow or Deny, not '{effect}'.")
    principals, not_principal = _principals(value, owner, required=with_principal)
    actions, not_action = _either(value, "Action", owner, _ACTION.fullmatch)
    resources, not_resource = _either(value, "Resource", owner, _is_resource)
    return Statement(
        index=index,
        sid=sid,
        effect=effect,
        principals=principals,
        not_principal=not_principal,
        actions=actions,
        not_action=not_action,
        resources=resources,
        not_resource=not_resource,
        conditions=_conditions(value.get("Condition", {}), owner),
    )


def _is_resource(text: str) -> bool:
    return (
        text == "*" or text.count(":") >= 5 or text.endswith("*")
    )  # arn:partition:service:region:account:id


def _strings(value: Any, owner: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(v, str) and v for v in values):
        raise PolicyError(f"{owner} must be a string or a list of strings, and not empty.")
    return tuple(values)


def _either(
    statement: dict[str, Any], name: str, owner: str, valid: Callable[[str], object]
) -> tuple[tuple[str, ...], bool]:
    """Return the values of an element or of its Not- twin, of which there must be exactly one."""
    negated = "Not" + name in statement
    if negated == (name in statement):
        raise PolicyError(f"{owner} must have exactly one of {name} and Not{name}.")
    element = "Not" + name if negated else name
    values = _strings(statement[element], f"{owner}'s {element}")
    for text in values:
        if not valid(text):
            raise PolicyError(f"{owner}'s {element} '{text}' is not valid.")
    return values, negated


def _principals(statement: dict[str, Any], owner: str, *, required: bool) -> tuple[Principals | None, bool]:
    negated = "NotPrincipal" in statement
    present = negated or "Principal" in statement
    if not required:
        if present:
            raise PolicyError(f"{owner} must not name a principal: this is an identity policy.")
        return None, False
    if not present or (negated and "Principal" in statement):
        raise PolicyError("Policy contains a statement with no principal.")
    value = statement["NotPrincipal" if negated else "Principal"]
    if value == "*":
        return Principals(aws=("*",)), negated
    if not isinstance(value, dict) or not value:
        raise PolicyError("Policy contains a statement with one or more invalid principals.")
    _only(value, {"AWS", "Service", "Federated", "CanonicalUser"}, f"{owner}'s Principal")
    aws = _strings(value["AWS"], f"{owner}'s Principal") if "AWS" in value else ()
    if not all(map(_PRINCIPAL.fullmatch, aws)):
        raise PolicyError("Policy contains a statement with one or more invalid principals.")
    foreign = tuple(
        f"{kind}:{name}"
        for kind in value
        if kind != "AWS"
        for name in _strings(value[kind], f"{owner}'s Principal")
    )
    return Principals(aws=aws, foreign=foreign), negated


def _conditions(value: Any, owner: str) -> tuple[Condition, ...]:
    if not isinstance(value, dict):
        raise PolicyError(f"{owner}'s Condition must be a JSON object.")
    conditions = []
    for operator, keys in value.items():
        parsed = parse_operator(operator)
        if parsed is None:
            raise PolicyError(f"{owner}'s Condition has an unknown operator '{operator}'.")
        if not isinstance(keys, dict) or not keys:
            raise PolicyError(f"{owner}'s Condition '{operator}' must map condition keys to values.")
        for key, expected in keys.items():
            values = _condition_values(expected, f"{owner}'s Condition '{operator}' '{key}'")
            name, quantifier, if_exists = parsed
            conditions.append(Condition(operator, key, values, name, quantifier, if_exists))
    return tuple(conditions)


def _condition_values(value: Any, owner: str) -> tuple[str, ...]:
    """Return the expected values as text; JSON numbers and booleans count as their text."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, str | bool | int | float) for v in values):
        raise PolicyError(f"{owner} must have a value or a list of values.")
    return tuple(v if isinstance(v, str) else json.dumps(v) for v in values)
