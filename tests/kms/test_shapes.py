"""Request validation: the service model's own bounds, in AWS's words."""

from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.model import Shape as ModelShape
from hypothesis import given
from hypothesis import strategies as st

from cloister.aws import Fault
from cloister.aws import ServiceModel as OurModel
from cloister.aws.shapes import (
    Blob,
    Boolean,
    Integer,
    List,
    Shape,
    String,
    StringMap,
    Structure,
    Timestamp,
    decode_request,
)

DESCRIPTION = Loader().load_service_model("kms", "service-2")
MODEL = ServiceModel(DESCRIPTION)
OURS = OurModel(DESCRIPTION)
REQUESTS = {name: OURS.request(name) for name in OURS.operations}
"""Of all the model's operations, those that the service has not got yet too."""


def described(shape: Shape) -> Any:
    """Return our table's row in a form that can be compared with the model's."""
    match shape:
        case Structure():
            members = {name: described(member) for name, member in shape.members.items()}
            return ("structure", members, sorted(shape.required))
        case List():
            return ("list", described(shape.member), shape.least, shape.most)
        case String():
            return ("string", shape.least, shape.most, shape.pattern, sorted(shape.values), shape.sensitive)
        case Blob():
            return ("blob", shape.least, shape.most)
        case Integer():
            return ("integer", shape.least, shape.most)
        case Boolean():
            return ("boolean",)
        case Timestamp():
            return ("timestamp",)
        case StringMap():
            return ("map",)


def modelled(shape: ModelShape) -> Any:
    """Return the model's shape in the same form."""
    bounds = shape.metadata
    least, most = bounds.get("min", 0), bounds.get("max")
    match shape.type_name:
        case "structure":
            members = {name: modelled(member) for name, member in shape.members.items()}  # type: ignore[attr-defined]
            return ("structure", members, sorted(bounds.get("required", ())))
        case "list":
            return ("list", modelled(shape.member), least, most)  # type: ignore[attr-defined]
        case "string":
            sensitive = bounds.get("sensitive", False)
            return ("string", least, most, bounds.get("pattern"), sorted(bounds.get("enum", ())), sensitive)
        case "blob":
            return ("blob", least, most)
        case "integer":
            return ("integer", bounds.get("min"), most)
        case other:
            return (other,)


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_requests_are_the_models(name: str) -> None:
    """Members, bounds, patterns and enumerations of each request equal botocore's copy of the model."""
    model = MODEL.operation_model(name).input_shape
    assert model is not None
    assert described(REQUESTS[name]) == modelled(model)


LESS_VALUE, MORE_VALUE = "have value less than or equal to", "have value greater than or equal to"
LESS_LENGTH, MORE_LENGTH = "have length less than or equal to", "have length greater than or equal to"
TEXT = "1 validation error detected: Value {} failed to satisfy constraint: Member must {}"


@pytest.mark.parametrize(
    ("operation", "request_", "value", "constraint"),
    [
        ("GenerateRandom", {"NumberOfBytes": 1025}, "'1025' at 'numberOfBytes'", f"{LESS_VALUE} 1024"),
        ("GenerateRandom", {"NumberOfBytes": 0}, "'0' at 'numberOfBytes'", f"{MORE_VALUE} 1"),
        ("DescribeKey", {}, "null at 'keyId'", "not be null"),
        ("DescribeKey", {"KeyId": ""}, "'' at 'keyId'", f"{MORE_LENGTH} 1"),
        (
            "CreateAlias",
            {"AliasName": "alias/ä", "TargetKeyId": "x"},
            "'alias/ä' at 'aliasName'",
            "satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$",
        ),
        (
            "GenerateDataKey",
            {"KeyId": "x", "KeySpec": "AES_512"},
            "'AES_512' at 'keySpec'",
            "satisfy enum value set: [AES_256, AES_128]",
        ),
        (
            "CreateKey",
            {"Tags": [{"TagKey": "a" * 129, "TagValue": ""}]},
            f"'{'a' * 129}' at 'tags.1.member.tagKey'",
            f"{LESS_LENGTH} 128",
        ),
        (
            "Encrypt",
            {"KeyId": "x", "Plaintext": "AAAA" * 1366},
            "'java.nio.HeapByteBuffer[pos=0 lim=4098 cap=4098]' at 'plaintext'",
            f"{LESS_LENGTH} 4096",
        ),
    ],
)
def test_texts_are_awss(operation: str, request_: dict[str, Any], value: str, constraint: str) -> None:
    """Each constraint fails in the words that AWS uses; plaintexts are not repeated."""
    with pytest.raises(Fault) as caught:
        decode_request(REQUESTS[operation], request_)
    assert (caught.value.code, caught.value.message) == (
        "ValidationException",
        TEXT.format(value, constraint),
    )


def test_several_errors_are_counted() -> None:
    """All that is wrong is told at once."""
    with pytest.raises(Fault, match=r"2 validation errors detected: .*'keyId'.*; .*'plaintext'"):
        decode_request(REQUESTS["Encrypt"], {})


@pytest.mark.parametrize(
    "request_",
    [
        {"KeyId": 1}, {"KeyId": ["x"]}, {"KeyId": True}, {"KeyId": "x", "GrantTokens": "t"},
        {"KeyId": "x", "GrantTokens": [1]},
    ],
)  # fmt: skip
def test_wrong_types_are_serialization_faults(request_: dict[str, Any]) -> None:
    """A number where text belongs is no validation error but a malformed request."""
    with pytest.raises(Fault) as caught:
        decode_request(REQUESTS["DescribeKey"], request_)
    assert caught.value.code == "SerializationException"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = sorted({member for request in REQUESTS.values() for member in request.members})


@given(st.sampled_from(sorted(REQUESTS)), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5))
def test_any_json_is_decoded_or_refused(name: str, request_: dict[str, Any]) -> None:
    """Whatever JSON a request holds, the answer is its decoded members or a fault of the two kinds."""
    try:
        outcome = set(decode_request(REQUESTS[name], request_))
    except Fault as fault:
        outcome = {fault.code}
    assert outcome <= {*REQUESTS[name].members, "ValidationException", "SerializationException"}
