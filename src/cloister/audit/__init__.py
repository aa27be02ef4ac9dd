"""Images examined: what is ambiguous or dangerous in one, and how two differ; pure judgements over bytes.

Reads leniently where ``eif`` is strict, because its business is to explain what ``eif`` refuses.
"""

from cloister.audit.codes import CODES
from cloister.audit.diff import Difference, compare
from cloister.audit.findings import MAX_PER_CODE, Finding, Findings, Severity
from cloister.audit.lint import lint
from cloister.audit.naming import normal_name, shown_name
from cloister.audit.policy import RECIPIENT_ACTIONS, key_policy_statement

__all__ = [
    "CODES",
    "MAX_PER_CODE",
    "RECIPIENT_ACTIONS",
    "Difference",
    "Finding",
    "Findings",
    "Severity",
    "compare",
    "key_policy_statement",
    "lint",
    "normal_name",
    "shown_name",
]
