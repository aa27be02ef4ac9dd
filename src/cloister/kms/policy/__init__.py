"""Policies: parse them, and judge a request by them. Pure: no clock, no store, no network."""

from cloister.kms.policy.conditions import OPERATORS, ConditionCheck
from cloister.kms.policy.document import PolicyDocument, PolicyError, Statement
from cloister.kms.policy.evaluate import (
    AccessRequest,
    Caller,
    Decision,
    ElementCheck,
    StatementResult,
    evaluate,
)

__all__ = [
    "OPERATORS",
    "AccessRequest",
    "Caller",
    "ConditionCheck",
    "Decision",
    "ElementCheck",
    "PolicyDocument",
    "PolicyError",
    "Statement",
    "StatementResult",
    "evaluate",
]
