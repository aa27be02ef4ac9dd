"""Condition operators: one table, and the rules for missing keys and for sets of values.

Follows the IAM User Guide, "IAM JSON policy elements: Condition operators" and "Single-valued vs. multivalued
context keys". Every operator compares one expected value with one actual value; quantifiers and negation are
applied around that.
"""

import base64
import ipaddress
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from cloister.kms.policy.patterns import Context, expand, literal, matches_tokens

Compare = Callable[[list[str], str], bool]


@dataclass(frozen=True, slots=True)
class Operator:
    """How one condition operator compares; a negated one is true when no expected value matches."""

    compare: Compare
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a Condition element: an operator with its affixes, a key, the expected values."""

    operator: str
    key: str
    expected: tuple[str, ...]
    name: str
    quantifier: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class ConditionCheck:
    """What became of one condition; ``actual`` is None when the request has no such key."""

    operator: str
    key: str
    expected: tuple[str, ...]
    actual: tuple[str, ...] | None
    matched: bool


def parse_operator(text: str) -> tuple[str, str, bool] | None:
    """Split ``ForAnyValue:StringLikeIfExists`` into name, quantifier and IfExists; None when unknown."""
    quantifier, colon, rest = text.partition(":")
    if not colon:
        quantifier, rest = "", text
    elif quantifier.lower() not in ("forallvalues", "foranyvalue"):
        return None
    if_exists = rest.lower().endswith("ifexists")
    name = rest[: -len("IfExists")] if if_exists else rest
    canonical = _NAMES.get(name.lower())
    if canonical is None or (canonical == "Null" and (if_exists or quantifier)):
        return None
    return canonical, quantifier.lower(), if_exists


def check_condition(condition: Condition, context: Context, *, variables: bool) -> ConditionCheck:
    """Judge one condition against the request's context."""
    actual = context.get(condition.key.lower())
    return ConditionCheck(
        operator=condition.operator,
        key=condition.key,
        expected=condition.expected,
        actual=actual,
        matched=_holds(condition, actual, context, variables=variables),
    )


def _holds(
    condition: Condition, actual: tuple[str, ...] | None, context: Context, *, variables: bool
) -> bool:
    if condition.name == "Null":
        return any(expected.lower() == ("true" if not actual else "false") for expected in condition.expected)
    rule = OPERATORS[condition.name]
    if not actual:
        if condition.quantifier == "foranyvalue":
            return condition.if_exists
        return condition.if_exists or condition.quantifier == "forallvalues" or rule.negated
    patterns = [_expand(expected, context, variables=variables) for expected in condition.expected]
    known = [pattern for pattern in patterns if pattern is not None]
    met = [any(rule.compare(pattern, value) for pattern in known) for value in actual]
    if condition.quantifier == "forallvalues":
        return all(hit != rule.negated for hit in met)
    if condition.quantifier == "foranyvalue":
        return any(hit != rule.negated for hit in met)
    return any(met) != rule.negated


def _expand(text: str, context: Context, *, variables: bool) -> list[str] | None:
    return expand(text, context) if variables else [c if c in "*?" else "=" + c for c in text]


def _string_equals(expected: list[str], actual: str) -> bool:
    return literal(expected) == actual


def _string_equals_ignore_case(expected: list[str], actual: str) -> bool:
    return literal(expected).lower() == actual.lower()


def _arn_like(expected: list[str], actual: str) -> bool:
    """Compare ARNs piece by piece, so that no star reaches across the first five colons."""
    pieces: list[list[str]] = [[]]
    for symbol in expected:
        if symbol == "=:" and len(pieces) < 6:  # arn:partition:service:region:account:resource
            pieces.append([])
        else:
            pieces[-1].append(symbol)
    parts = actual.split(":", 5)
    return len(pieces) == len(parts) == 6 and all(map(matches_tokens, pieces, parts))


def _bool(expected: list[str], actual: str) -> bool:
    return literal(expected).lower() == actual.lower()


def _binary(expected: list[str], actual: str) -> bool:
    try:
        return base64.b64decode(literal(expected), validate=True) == base64.b64decode(actual, validate=True)
    except ValueError:  # also what is not ASCII
        return False


def _number(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError(text)
    return value


def read_moment(text: str) -> datetime:
    """Read a date of the policy language: ISO 8601 (W3C profile) or seconds since 1970; raises ValueError."""
    if text.removeprefix("-").isdecimal():
        try:
            return datetime.fromtimestamp(int(text), tz=UTC)
        except (OverflowError, OSError) as error:
            raise ValueError(text) from error
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _numeric(compare: Callable[[Decimal, Decimal], bool]) -> Compare:
    def test(expected: list[str], actual: str) -> bool:
        try:
            return compare(_number(actual), _number(literal(expected)))
        except (InvalidOperation, ValueError):
            return False

    return test


def _date(compare: Callable[[datetime, datetime], bool]) -> Compare:
    def test(expected: list[str], actual: str) -> bool:
        try:
            return compare(read_moment(actual), read_moment(literal(expected)))
        except ValueError:
            return False

    return test


def _ip_address(expected: list[str], actual: str) -> bool:
    try:
        return ipaddress.ip_address(actual) in ipaddress.ip_network(literal(expected), strict=False)
    except ValueError:
        return False


OPERATORS = {
    "StringEquals": Operator(_string_equals),
    "StringNotEquals": Operator(_string_equals, negated=True),
    "StringEqualsIgnoreCase": Operator(_string_equals_ignore_case),
    "StringNotEqualsIgnoreCase": Operator(_string_equals_ignore_case, negated=True),
    "StringLike": Operator(matches_tokens),
    "StringNotLike": Operator(matches_tokens, negated=True),
    "NumericEquals": Operator(_numeric(operator.eq)),
    "NumericNotEquals": Operator(_numeric(operator.eq), negated=True),
    "NumericLessThan": Operator(_numeric(operator.lt)),
    "NumericLessThanEquals": Operator(_numeric(operator.le)),
    "NumericGreaterThan": Operator(_numeric(operator.gt)),
    "NumericGreaterThanEquals": Operator(_numeric(operator.ge)),
    "DateEquals": Operator(_date(operator.eq)),
    "DateNotEquals": Operator(_date(operator.eq), negated=True),
    "DateLessThan": Operator(_date(operator.lt)),
    "DateLessThanEquals": Operator(_date(operator.le)),
    "DateGreaterThan": Operator(_date(operator.gt)),
    "DateGreaterThanEquals": Operator(_date(operator.ge)),
    "Bool": Operator(_bool),
    "BinaryEquals": Operator(_binary),
    "IpAddress": Operator(_ip_address),
    "NotIpAddress": Operator(_ip_address, negated=True),
    "ArnEquals": Operator(_arn_like),
    "ArnLike": Operator(_arn_like),
    "ArnNotEquals": Operator(_arn_like, negated=True),
    "ArnNotLike": Operator(_arn_like, negated=True),
}
_NAMES = {name.lower(): name for name in (*OPERATORS, "Null")}
