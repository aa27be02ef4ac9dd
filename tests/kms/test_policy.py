"""The policy evaluator as a table: statement, caller and context in, judgement out."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.kms.policy import (
    OPERATORS,
    AccessRequest,
    Caller,
    PolicyDocument,
    PolicyError,
    evaluate,
)

ACCOUNT = "111122223333"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1234"
USER = f"arn:aws:iam::{ACCOUNT}:user/alice"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/enclave"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/enclave/one"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
FOREIGN = "arn:aws:iam::444455556666:user/mallory"

ALLOW_ALL = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}


def statement(**elements: Any) -> dict[str, Any]:
    found = {
        "Effect": "Allow",
        "Principal": {"AWS": USER},
        "Action": "kms:Decrypt",
        "Resource": "*",
        **elements,
    }
    return {name: value for name, value in found.items() if value is not None}


def key_policy(*statements: dict[str, Any], version: str = "2012-10-17") -> PolicyDocument:
    return PolicyDocument.key_policy(json.dumps({"Version": version, "Statement": list(statements)}))


def identity(*statements: dict[str, Any]) -> dict[str, PolicyDocument]:
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return {"inline": PolicyDocument.identity_policy(text)} if statements else {}


def caller(arn: str = USER, *policies: dict[str, Any]) -> Caller:
    role = ROLE if arn == SESSION else None
    return Caller(arn=arn, account=arn.split(":")[4], role_arn=role, policies=identity(*policies))


def allowed(
    policy: PolicyDocument | None,
    who: Caller,
    context: Mapping[str, tuple[str, ...]] | None = None,
    action: str = "kms:Decrypt",
) -> bool:
    request = AccessRequest(action, KEY, {k.lower(): v for k, v in (context or {}).items()})
    return evaluate(request, who, policy, ACCOUNT).allowed


@pytest.mark.parametrize(
    ("principal", "arn", "expected"),
    [
        ("*", USER, True),
        ({"AWS": "*"}, SESSION, True),
        ({"AWS": USER}, USER, True),
        ({"AWS": [ROLE, USER]}, USER, True),
        ({"AWS": ROLE}, SESSION, True),
        ({"AWS": SESSION}, SESSION, True),
        ({"AWS": SESSION[:-3] + "two"}, SESSION, False),
        ({"AWS": ROLE}, USER, False),
        ({"AWS": USER.upper().replace("ARN:AWS:IAM", "arn:aws:iam").replace("USER/", "user/")}, USER, False),
        ({"Service": "ec2.amazonaws.com"}, USER, False),
        ({"Federated": "cognito-identity.amazonaws.com"}, USER, False),
        ({"AWS": ROOT}, USER, False),
        ({"AWS": ACCOUNT}, USER, False),
        ({"AWS": FOREIGN}, USER, False),
    ],
)
def test_principals(principal: Any, arn: str, expected: bool) -> None:
    """A principal is a name, a role for its sessions, or everybody; an account as such gives nothing."""
    assert allowed(key_policy(statement(Principal=principal)), caller(arn)) is expected


@pytest.mark.parametrize("principal", [ROOT, ACCOUNT])
def test_an_account_delegates_to_identity_policies(principal: str) -> None:
    """Naming the account lets identity policies decide; they alone decide nothing."""
    delegating = key_policy(statement(Principal={"AWS": principal}, Action="kms:*"))
    assert allowed(delegating, caller(USER, ALLOW_ALL))
    assert not allowed(delegating, caller(USER))
    elsewhere = key_policy(statement(Principal={"AWS": FOREIGN}))
    assert not allowed(elsewhere, caller(USER, ALLOW_ALL))


def test_other_accounts_need_both() -> None:
    """A caller of another account needs the key policy and his own account's."""
    named = key_policy(statement(Principal={"AWS": FOREIGN}))
    by_account = key_policy(statement(Principal={"AWS": "444455556666"}))
    for policy in (named, by_account):
        assert allowed(policy, caller(FOREIGN, ALLOW_ALL))
        assert not allowed(policy, caller(FOREIGN))
    assert not allowed(key_policy(statement()), caller(FOREIGN, ALLOW_ALL))


@pytest.mark.parametrize(
    ("listed", "arn", "denied"),
    [
        ([USER], USER, False),
        ([ROLE], USER, True),
        ([ROOT], USER, True),
        ([SESSION, ROLE], SESSION, False),
        ([ROLE], SESSION, True),
        (["*"], USER, False),
    ],
)
def test_deny_with_not_principal(listed: list[str], arn: str, denied: bool) -> None:
    """A Deny with NotPrincipal spares only who is named in full."""
    everyone = statement(Principal="*")
    deny = statement(Principal=None, NotPrincipal={"AWS": listed}, Effect="Deny")
    assert allowed(key_policy(everyone, deny), caller(arn)) is not denied


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"Action": "KMS:decrypt"}, True),
        ({"Action": "kms:De*"}, True),
        ({"Action": "kms:?ecrypt"}, True),
        ({"Action": "*"}, True),
        ({"Action": ["kms:Encrypt", "kms:Decrypt"]}, True),
        ({"Action": "kms:Encrypt"}, False),
        ({"Action": "kms:Decryp"}, False),
        ({"Action": "s3:*"}, False),
        ({"Action": None, "NotAction": "kms:Encrypt"}, True),
        ({"Action": None, "NotAction": "kms:*"}, False),
        ({"Resource": KEY}, True),
        ({"Resource": "arn:aws:kms:*:111122223333:key/*"}, True),
        ({"Resource": KEY + "5"}, False),
        ({"Resource": KEY.upper().replace("ARN:AWS:KMS", "arn:aws:kms")}, False),
        ({"Resource": None, "NotResource": KEY}, False),
        ({"Resource": None, "NotResource": KEY + "5"}, True),
        ({"Resource": "arn:aws:kms:us-east-1:${aws:PrincipalAccount}:key/1234"}, True),
        ({"Resource": "arn:aws:kms:us-east-1:${aws:absent}:key/1234"}, False),
    ],
)
def test_actions_and_resources(elements: dict[str, Any], expected: bool) -> None:
    """Actions ignore case, resources do not; globs and Not-elements do as IAM says."""
    context = {"aws:PrincipalAccount": (ACCOUNT,)}
    assert allowed(key_policy(statement(**elements)), caller(), context) is expected


def test_deny_wins_everywhere() -> None:
    """An explicit Deny in either policy beats every Allow, and says where it stood."""
    allow, deny = statement(), statement(Effect="Deny")
    request = AccessRequest("kms:Decrypt", KEY, {})
    of_key = evaluate(request, caller(), key_policy(allow, deny), ACCOUNT)
    of_user = evaluate(request, caller(USER, {**ALLOW_ALL, "Effect": "Deny"}), key_policy(allow), ACCOUNT)
    assert (of_key.allowed, of_key.reason) == (False, "with an explicit deny in a resource-based policy")
    assert (of_user.allowed, of_user.reason) == (False, "with an explicit deny in an identity-based policy")


def test_without_a_key_identity_policies_decide() -> None:
    """ListKeys and its like have no key policy to ask."""
    assert allowed(None, caller(USER, ALLOW_ALL))
    assert not allowed(None, caller())


PCR, K = "kms:RecipientAttestation:PCR0", "k"
AB: dict[str, tuple[str, ...]] = {K: ("a", "b")}

# operator, key, expected value or values, context, outcome
CONDITIONS: list[tuple[str, str, Any, dict[str, tuple[str, ...]], bool]] = [
    ("StringEquals", K, "a", {K: ("a",)}, True),
    ("StringEquals", K, "A", {K: ("a",)}, False),
    ("StringEquals", K, ["x", "a"], {K: ("a",)}, True),
    ("StringEquals", K, "a*", {K: ("ab",)}, False),
    ("StringEquals", "K", "a", {K: ("a",)}, True),
    ("StringEquals", K, "a", {}, False),
    ("StringEqualsIfExists", K, "a", {}, True),
    ("StringEqualsIfExists", K, "a", {K: ("b",)}, False),
    ("StringNotEquals", K, "a", {K: ("b",)}, True),
    ("StringNotEquals", K, ["a", "b"], {K: ("b",)}, False),
    ("StringNotEquals", K, "a", {}, True),
    ("StringEqualsIgnoreCase", PCR, "AB" * 48, {PCR: ("ab" * 48,)}, True),
    ("StringEqualsIgnoreCase", PCR, "AB" * 48, {}, False),
    ("StringNotEqualsIgnoreCase", K, "A", {K: ("a",)}, False),
    ("stringequals", K, "a", {K: ("a",)}, True),
    ("StringLike", K, "a*c?e", {K: ("abbbcde",)}, True),
    ("StringLike", K, "a*c?e", {K: ("abbbce",)}, False),
    ("StringLike", K, "A*", {K: ("ab",)}, False),
    ("StringLike", K, "*", {K: ("",)}, True),
    ("StringLike", K, "?*", {}, False),
    ("StringLike", K, "a${*}c", {K: ("abc",)}, False),
    ("StringLike", K, "a${*}c", {K: ("a*c",)}, True),
    ("StringNotLike", K, "a*", {K: ("ab",)}, False),
    ("StringNotLike", K, "a*", {K: ("b",)}, True),
    ("StringEquals", K, "${v}", {K: ("x",), "v": ("x",)}, True),
    ("StringEquals", K, "${v}", {K: ("x",)}, False),
    ("StringNotEquals", K, "${v}", {K: ("x",)}, True),
    ("StringEquals", K, "${v, 'x'}", {K: ("x",)}, True),
    ("StringLike", K, "${v}", {K: ("xyz",), "v": ("*",)}, False),
    ("NumericEquals", K, "7", {K: ("7.0",)}, True),
    ("NumericEquals", K, 7, {K: ("7",)}, True),
    ("NumericNotEquals", K, "7", {K: ("8",)}, True),
    ("NumericNotEquals", K, "7", {}, True),
    ("NumericLessThan", K, "7", {K: ("7",)}, False),
    ("NumericLessThan", K, "7", {K: ("-8",)}, True),
    ("NumericLessThanEquals", K, "7", {K: ("7",)}, True),
    ("NumericGreaterThan", K, "10", {K: ("9",)}, False),
    ("NumericGreaterThanEquals", K, "10", {K: ("10",)}, True),
    ("NumericEquals", K, "NaN", {K: ("NaN",)}, False),
    ("NumericEquals", K, "seven", {K: ("7",)}, False),
    ("DateEquals", K, "2026-01-01T00:00:00Z", {K: ("2026-01-01T01:00:00+01:00",)}, True),
    ("DateLessThan", K, "2026-01-01T00:00:00Z", {K: ("2025-12-31T23:59:59Z",)}, True),
    ("DateGreaterThan", K, "2026-01-01", {K: ("2025-12-31T23:59:59Z",)}, False),
    ("DateGreaterThanEquals", K, "0", {K: ("1970-01-01T00:00:00Z",)}, True),
    ("DateLessThanEquals", K, "1", {K: ("1970-01-01T00:00:02Z",)}, False),
    ("DateNotEquals", K, "2026-01-01", {}, True),
    ("DateEquals", K, "yesterday", {K: ("2025-12-31T23:59:59Z",)}, False),
    ("Bool", K, "true", {K: ("true",)}, True),
    ("Bool", K, True, {K: ("true",)}, True),
    ("Bool", K, "false", {K: ("true",)}, False),
    ("Bool", K, "false", {}, False),
    ("BoolIfExists", K, "false", {}, True),
    ("BinaryEquals", K, "AAEC", {K: ("AAEC",)}, True),
    ("BinaryEquals", K, "AAE=", {K: ("AAEC",)}, False),
    ("BinaryEquals", K, "AAE=", {K: ("\u00e9",)}, False),
    ("IpAddress", K, "10.0.0.0/8", {K: ("10.1.2.3",)}, True),
    ("IpAddress", K, "10.0.0.1", {K: ("10.0.0.2",)}, False),
    ("IpAddress", K, "2001:db8::/32", {K: ("2001:db8::1",)}, True),
    ("IpAddress", K, "10.0.0.0/8", {K: ("2001:db8::1",)}, False),
    ("IpAddress", K, "10.0.0.0/8", {}, False),
    ("NotIpAddress", K, "10.0.0.0/8", {K: ("10.1.2.3",)}, False),
    ("NotIpAddress", K, "10.0.0.0/8", {}, True),
    ("ArnLike", K, "arn:aws:iam::*:role/en*", {K: (ROLE,)}, True),
    ("ArnEquals", K, "arn:aws:iam::*:role/en*", {K: (ROLE,)}, True),
    ("ArnLike", K, "arn:*", {K: (ROLE,)}, False),
    ("ArnLike", K, "arn:aws:*:role/enclave", {K: (ROLE,)}, False),
    ("ArnNotLike", K, "arn:aws:iam::*:role/*", {K: (ROLE,)}, False),
    ("ArnNotEquals", K, ROLE, {}, True),
    ("Null", PCR, "true", {}, True),
    ("Null", PCR, "true", {PCR: ("00",)}, False),
    ("Null", PCR, "false", {PCR: ("00",)}, True),
    ("Null", PCR, False, {}, False),
    ("ForAllValues:StringEquals", K, ["a", "b", "c"], AB, True),
    ("ForAllValues:StringEquals", K, ["a", "c"], AB, False),
    ("ForAllValues:StringEquals", K, "a", {}, True),
    ("ForAllValues:StringEquals", K, "a", {K: ()}, True),
    ("ForAnyValue:StringEquals", K, ["b", "c"], AB, True),
    ("ForAnyValue:StringEquals", K, "c", AB, False),
    ("ForAnyValue:StringEquals", K, "a", {}, False),
    ("ForAnyValue:StringNotEquals", K, "a", AB, True),
    ("ForAnyValue:StringNotEquals", K, ["a", "b"], AB, False),
    ("ForAnyValue:StringNotEquals", K, "a", {}, False),
    ("ForAllValues:StringNotEquals", K, "a", AB, False),
    ("ForAllValues:StringNotEquals", K, "c", AB, True),
    ("ForAllValues:StringLike", K, "?", AB, True),
]


@pytest.mark.parametrize(("operator", "key", "expected", "context", "outcome"), CONDITIONS)
def test_conditions(
    operator: str, key: str, expected: Any, context: dict[str, tuple[str, ...]], outcome: bool
) -> None:
    """Each operator, with its affixes, on present, absent and many values."""
    policy = key_policy(statement(Condition={operator: {key: expected}}))
    assert allowed(policy, caller(), context) is outcome


def test_the_table_leaves_no_operator_out() -> None:
    """Every operator is in the table above."""
    used = {operator.rpartition(":")[2].removesuffix("IfExists") for operator, *_ in CONDITIONS}
    assert set(OPERATORS) <= used


def test_conditions_add_up() -> None:
    """Operators and keys are all required; values are alternatives."""
    policy = key_policy(
        statement(Condition={"StringEquals": {"a": "1", "b": ["2", "3"]}, "Bool": {"c": "true"}})
    )
    met = {"a": ("1",), "b": ("3",), "c": ("true",)}
    assert allowed(policy, caller(), met)
    for name in met:
        assert not allowed(policy, caller(), {**met, name: ("0",)})


def test_older_policies_have_no_variables() -> None:
    """In version 2008-10-17 a dollar is a dollar."""
    condition = {"StringEquals": {"k": "${v}"}}
    policy = key_policy(statement(Condition=condition), version="2008-10-17")
    assert allowed(policy, caller(), {"k": ("${v}",), "v": ("x",)})
    assert not allowed(policy, caller(), {"k": ("x",), "v": ("x",)})


def test_decisions_explain_themselves() -> None:
    """A failed condition is reported with operator, key, expected and actual value."""
    condition = {"StringEqualsIgnoreCase": {PCR: "AA"}}
    request = AccessRequest("kms:Decrypt", KEY, {PCR.lower(): ("bb",)})
    decision = evaluate(request, caller(), key_policy(statement(Sid="S", Condition=condition)), ACCOUNT)
    (result,) = decision.statements
    (check,) = result.conditions
    assert (result.sid, result.matched) == ("S", False)
    assert (check.operator, check.key) == ("StringEqualsIgnoreCase", PCR)
    assert (check.expected, check.actual, check.matched) == (("AA",), ("bb",), False)
    other = evaluate(request, caller(FOREIGN), key_policy(statement()), ACCOUNT).statements[0]
    assert [(e.element, e.matched) for e in other.elements] == [
        ("Principal", False),
        ("Action", True),
        ("Resource", True),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{", '{"Statement":[]}', '{"Statement":{}}', "[" * 100_000,
        '{"Statement":[],"Statement":[]}',
        json.dumps({"Version": "2020-01-01", "Statement": [statement()]}),
        json.dumps({"Statement": [statement()], "More": 1}),
        json.dumps({"Statement": [statement(More=1)]}),
        json.dumps({"Statement": [statement(Effect="allow")]}),
        json.dumps({"Statement": [statement(Action=None)]}),
        json.dumps({"Statement": [statement(Action=[])]}),
        json.dumps({"Statement": [statement(Action="Decrypt")]}),
        json.dumps({"Statement": [statement(NotAction="kms:*")]}),
        json.dumps({"Statement": [statement(Resource="key")]}),
        json.dumps({"Statement": [statement(Principal={})]}),
        json.dumps({"Statement": [statement(Principal={"AWS": "alice"})]}),
        json.dumps({"Statement": [statement(NotPrincipal="*")]}),
        json.dumps({"Statement": [statement(Sid="a"), statement(Sid="a")]}),
        json.dumps({"Statement": [statement(Condition={"StringEquals": "a"})]}),
        json.dumps({"Statement": [statement(Condition={"StringEquals": {}})]}),
        json.dumps({"Statement": [statement(Condition={"StringEquals": {"a": []}})]}),
        json.dumps({"Statement": [statement(Condition={"StringEquals": {"a": {}}})]}),
        json.dumps({"Statement": [statement(Condition={"NullIfExists": {"a": "true"}})]}),
        json.dumps({"Statement": [statement(Condition={"ForSome:StringEquals": {"a": "b"}})]}),
        json.dumps({"Statement": [statement(Resource="*" * 40_000)]}),
    ],
    ids=range(28),
)  # fmt: skip
def test_policies_outside_the_grammar_are_refused(text: str) -> None:
    """What cannot be understood is refused, never skipped."""
    with pytest.raises(PolicyError):
        PolicyDocument.key_policy(text)


ELEMENTS = st.builds(
    statement,
    Effect=st.sampled_from(["Allow", "Deny"]),
    Principal=st.sampled_from(["*", {"AWS": USER}, {"AWS": ROOT}, {"AWS": ROLE}]),
    Action=st.sampled_from(["kms:*", "kms:Decrypt", "kms:Encrypt"]),
    Condition=st.sampled_from([{}, {"StringEquals": {"k": "a"}}, {"StringNotEquals": {"k": "a"}}]),
)
CALLERS = st.sampled_from([caller(), caller(SESSION), caller(USER, ALLOW_ALL)])
CONTEXTS = st.sampled_from([{}, {"k": ("a",)}, {"k": ("b",)}])


@given(st.lists(ELEMENTS, min_size=1, max_size=4), ELEMENTS, CALLERS, CONTEXTS)
def test_a_deny_never_allows(
    statements: list[dict[str, Any]],
    extra: dict[str, Any],
    who: Caller,
    context: dict[str, tuple[str, ...]],
) -> None:
    """One more Deny turns no denial into permission; one more Allow turns no permission into denial."""
    before = allowed(key_policy(*statements), who, context)
    after = allowed(key_policy(*statements, extra), who, context)
    assert not (after and not before) if extra["Effect"] == "Deny" else not (before and not after)


@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_globs_mean_what_they_say(pattern: str, value: str) -> None:
    """A glob matches exactly what the regular expression of its stars matches."""
    policy = key_policy(statement(Action="kms:x" + pattern))
    expected = re.fullmatch(pattern.replace("*", ".*"), value) is not None
    assert allowed(policy, caller(), action="kms:x" + value) is expected


def test_hostile_globs_are_matched_in_time() -> None:
    """A pattern of many stars costs no more than pattern times value."""
    policy = key_policy(statement(Condition={"StringLike": {"k": "*a" * 2000 + "b"}}))
    assert not allowed(policy, caller(), {"k": ("a" * 8000,)})
