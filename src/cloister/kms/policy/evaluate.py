"""Judge one request by a key policy and the caller's identity policies, and say why.

Follows the AWS KMS developer guide, "Troubleshooting key access" (the flowchart), and the IAM User Guide,
"Policy evaluation logic". Left out until they exist here: grants, permission boundaries, service control
policies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloister.kms.policy.conditions import ConditionCheck, check_condition
from cloister.kms.policy.document import PolicyDocument, Statement
from cloister.kms.policy.patterns import Context, expand, matches_glob, matches_tokens

KEY_POLICY = "key policy"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the ARN that AWS prints, and for a role's session the role's own."""

    arn: str
    account: str
    role_arn: str | None = None
    policies: Mapping[str, PolicyDocument] = field(default_factory=dict)

    @property
    def principal_arns(self) -> tuple[str, ...]:
        """The ARNs by which a policy may name this caller."""
        return (self.arn, self.role_arn) if self.role_arn else (self.arn,)


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """What is asked: ``kms:Decrypt`` on a key's ARN, with the condition keys of the request."""

    action: str
    resource: str
    context: Context


@dataclass(frozen=True, slots=True)
class ElementCheck:
    """What became of a statement's Principal, Action or Resource."""

    element: str
    expected: tuple[str, ...]
    actual: str
    matched: bool


@dataclass(frozen=True, slots=True)
class StatementResult:
    """What became of one statement; conditions are judged only once its elements match."""

    policy: str
    index: int
    sid: str
    effect: str
    matched: bool
    delegated: bool
    elements: tuple[ElementCheck, ...]
    conditions: tuple[ConditionCheck, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what the decision log keeps."""
        return {
            "policy": self.policy,
            "index": self.index,
            "sid": self.sid,
            "effect": self.effect,
            "matched": self.matched,
            **({"delegatedToIdentityPolicies": True} if self.delegated else {}),
            "elements": [
                {"element": e.element, "expected": e.expected, "actual": e.actual, "matched": e.matched}
                for e in self.elements
            ],
            "conditions": [
                {
                    "operator": c.operator,
                    "key": c.key,
                    "expected": c.expected,
                    "actual": c.actual,
                    "matched": c.matched,
                }
                for c in self.conditions
            ],
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """The judgement, the words AWS has for it, and what every statement contributed."""

    allowed: bool
    reason: str
    statements: tuple[StatementResult, ...]


def evaluate(
    request: AccessRequest, caller: Caller, key_policy: PolicyDocument | None, key_account: str
) -> Decision:
    """Judge one request; ``key_policy`` is None where no key is involved."""
    of_key = _judge(KEY_POLICY, key_policy, request, caller) if key_policy is not None else ()
    of_caller = tuple(
        result
        for name, policy in caller.policies.items()
        for result in _judge(f"identity policy {name}", policy, request, caller)
    )
    statements = of_key + of_caller

    def decide(allowed: bool, reason: str) -> Decision:
        return Decision(allowed=allowed, reason=reason, statements=statements)

    for results, kind in ((of_key, "a resource-based"), (of_caller, "an identity-based")):
        if any(r.matched and r.effect == "Deny" for r in results):
            return decide(False, f"with an explicit deny in {kind} policy")
    allows = [r for r in of_key if r.matched and r.effect == "Allow"]
    direct, delegated = any(not r.delegated for r in allows), any(r.delegated for r in allows)
    by_identity = any(r.matched and r.effect == "Allow" for r in of_caller)
    if key_policy is None:
        allowed = by_identity
    elif caller.account == key_account:
        allowed = direct or (delegated and by_identity)
    else:
        allowed = (direct or delegated) and by_identity
    if allowed:
        return decide(True, "allowed")
    blamed = "identity-based" if key_policy is None or direct or delegated else "resource-based"
    return decide(False, f"because no {blamed} policy allows the {request.action} action")


def _judge(
    name: str, policy: PolicyDocument, request: AccessRequest, caller: Caller
) -> tuple[StatementResult, ...]:
    return tuple(_judge_statement(name, policy, s, request, caller) for s in policy.statements)


def _judge_statement(
    name: str, policy: PolicyDocument, statement: Statement, request: AccessRequest, caller: Caller
) -> StatementResult:
    principal, delegated = _check_principal(statement, caller)
    elements = (
        *principal,
        _check_action(statement, request),
        _check_resource(statement, request, variables=policy.variables),
    )
    matched = all(element.matched for element in elements)
    conditions: Sequence[ConditionCheck] = ()
    if matched:
        conditions = [
            check_condition(c, request.context, variables=policy.variables) for c in statement.conditions
        ]
        matched = all(condition.matched for condition in conditions)
    return StatementResult(
        policy=name,
        index=statement.index,
        sid=statement.sid,
        effect=statement.effect,
        matched=matched,
        delegated=delegated,
        elements=elements,
        conditions=tuple(conditions),
    )


def _check_principal(statement: Statement, caller: Caller) -> tuple[tuple[ElementCheck, ...], bool]:
    """Match the principal; the second value tells that it is named only through its whole account."""
    if statement.principals is None:
        return (), False
    listed = statement.principals.aws
    by_name = "*" in listed or any(arn in listed for arn in caller.principal_arns)
    by_account = any(_is_account(principal, caller.account) for principal in listed)
    if statement.not_principal:
        # A Deny spares only who is named in full (a session: itself and its role); an Allow excludes more.
        spared = "*" in listed or all(arn in listed for arn in caller.principal_arns)
        excluded = spared if statement.effect == "Deny" else by_name or by_account
        element, matched, delegated = "NotPrincipal", not excluded, False
    else:
        element, matched, delegated = "Principal", by_name or by_account, by_account and not by_name
    check = ElementCheck(element, listed + statement.principals.foreign, caller.arn, matched)
    return (check,), delegated and matched and statement.effect == "Allow"


def _is_account(principal: str, account: str) -> bool:
    """Tell whether a principal is an account as a whole: its number or its root ARN."""
    return principal == account or (
        principal.startswith("arn:") and principal.endswith(f":iam::{account}:root")
    )


def _check_action(statement: Statement, request: AccessRequest) -> ElementCheck:
    hit = any(matches_glob(action, request.action, ignore_case=True) for action in statement.actions)
    element = "NotAction" if statement.not_action else "Action"
    return ElementCheck(element, statement.actions, request.action, hit != statement.not_action)


def _check_resource(statement: Statement, request: AccessRequest, *, variables: bool) -> ElementCheck:
    hit = any(_covers(resource, request, variables=variables) for resource in statement.resources)
    element = "NotResource" if statement.not_resource else "Resource"
    return ElementCheck(element, statement.resources, request.resource, hit != statement.not_resource)


def _covers(resource: str, request: AccessRequest, *, variables: bool) -> bool:
    if variables and "${" in resource:
        tokens = expand(resource, request.context)
        return tokens is not None and matches_tokens(tokens, request.resource)
    return matches_glob(resource, request.resource)
