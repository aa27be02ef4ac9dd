"""AWS JSON 1.1: bodies in, results and faults out."""

import json

import pytest

from cloister.aws import Fault, decode_body, decode_fault, encode_fault, encode_result, read_target


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b'"x"', b"null", b"\xff", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": "\\ud800"}',
        b'{"a": "\\uD800"}', b"[" * 100_000, b'{"a":' * 50_000, b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=range(12),
)  # fmt: skip
def test_malformed_bodies_are_serialization_faults(body: bytes) -> None:
    """Nothing but a JSON object of real text passes, and nothing crashes."""
    with pytest.raises(Fault) as caught:
        decode_body(body)
    assert caught.value.code == "SerializationException"


def test_bodies_and_results() -> None:
    """An empty body is an empty request; results are compact JSON."""
    assert decode_body(b"") == {}
    assert decode_body('{"a":"é😀"}'.encode()) == {"a": "é😀"}
    assert json.loads(encode_result({"KeyId": "x"})) == {"KeyId": "x"}


def test_targets() -> None:
    """The header names service and operation; anything else is an unknown operation."""
    assert read_target("TrentService.Decrypt", "TrentService") == "Decrypt"
    for target in (None, "", "TrentService", "TrentService.", "Other.Decrypt"):
        with pytest.raises(Fault, match="UnknownOperationException"):
            read_target(target, "TrentService")


def test_faults_survive_the_wire() -> None:
    """What the server encodes the client decodes, AWS's older spellings included."""
    fault = Fault("NotFoundException", "Key 'x' does not exist")
    again = decode_fault(encode_fault(fault), fault.status)
    assert (again.code, again.message, again.status) == (fault.code, fault.message, 400)
    old = decode_fault(b'{"__type":"com.amazon.kms#DisabledException","Message":"m"}', 400)
    assert (old.code, old.message) == ("DisabledException", "m")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"message": 1}', b"[" * 100_000])
def test_unreadable_faults_are_still_faults(body: bytes) -> None:
    """A proxy's error page becomes a fault that says the status."""
    assert "502" in decode_fault(body, 502).message


def test_internal_errors_are_500() -> None:
    """The service's own failures travel under 500, the caller's under 400."""
    assert Fault("KMSInternalException").status == 500
    assert Fault("ValidationException").status == 400
