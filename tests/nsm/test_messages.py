"""The module's messages against AWS's bytes, and both directions of every one of them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.cose import encode_cbor
from cloister.nsm import (
    MAX_REQUEST,
    MAX_RESPONSE,
    Attest,
    DescribeNsm,
    DescribePcr,
    ErrorCode,
    ExtendPcr,
    GetRandom,
    LockPcr,
    LockPcrs,
    MessageError,
    ModuleDescription,
    PcrExtended,
    PcrLocked,
    PcrsLocked,
    PcrState,
    RandomBytes,
    Refusal,
    Request,
    Response,
    SignedDocument,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

NUMBERS = st.integers(0, 65535)
BYTES = st.binary(max_size=1024)
OPTIONAL = st.none() | BYTES
REQUESTS = (
    st.builds(DescribePcr, NUMBERS)
    | st.builds(ExtendPcr, NUMBERS, BYTES)
    | st.builds(LockPcr, NUMBERS)
    | st.builds(LockPcrs, NUMBERS)
    | st.just(DescribeNsm())
    | st.builds(Attest, OPTIONAL, OPTIONAL, OPTIONAL)
    | st.just(GetRandom())
)
DESCRIPTIONS = st.builds(
    ModuleDescription, NUMBERS, NUMBERS, NUMBERS, st.text(max_size=50), NUMBERS, st.lists(NUMBERS).map(tuple)
)
RESPONSES = (
    st.builds(PcrState, st.booleans(), BYTES)
    | st.builds(PcrExtended, BYTES)
    | st.just(PcrLocked())
    | st.just(PcrsLocked())
    | DESCRIPTIONS
    | st.builds(SignedDocument, BYTES)
    | st.builds(RandomBytes, BYTES)
    | st.builds(Refusal, st.sampled_from(ErrorCode))
)

GENUINE_REQUESTS: dict[str, Request] = {
    "DescribeNSM": DescribeNsm(),
    "GetRandom": GetRandom(),
    "DescribePCR_0": DescribePcr(0),
    "ExtendPCR_16_010203": ExtendPcr(16, b"\x01\x02\x03"),
    "LockPCR_16": LockPcr(16),
    "LockPCRs_32": LockPcrs(32),
    "Attestation_all_null": Attest(),
    "Attestation_ud_only": Attest(user_data=b"hi"),
}
GENUINE_RESPONSES: dict[str, Response] = {
    "LockPCR": PcrLocked(),
    "LockPCRs": PcrsLocked(),
    "Error_ReadOnlyIndex": Refusal(ErrorCode.READ_ONLY_INDEX),
    "DescribePCR_locked_zero": PcrState(lock=True, data=bytes(48)),
    "ExtendPCR": PcrExtended(bytes(48)),
    "DescribeNSM": ModuleDescription(
        1, 0, 0, "i-0123456789abcdef0-enc0123456789abcdef", 32, tuple(range(16))
    ),
}  # fmt: skip


def test_requests_have_the_bytes_of_aws(shared_vectors: Path) -> None:
    """Each request encodes to AWS's vector and is read back from it."""
    vectors = json.loads((shared_vectors / "nsm-and-eif-vectors.json").read_text())["nsm_requests"]
    assert {name: encode_request(request).hex() for name, request in GENUINE_REQUESTS.items()} == vectors
    for name, request in GENUINE_REQUESTS.items():
        assert decode_request(bytes.fromhex(vectors[name])) == request


def test_responses_have_the_bytes_of_aws(shared_vectors: Path) -> None:
    """Each answer encodes to AWS's vector and is read back from it."""
    vectors = json.loads((shared_vectors / "nsm-and-eif-vectors.json").read_text())["nsm_responses"]
    prefix = vectors.pop("GetRandom_prefix(256B)")
    assert encode_response(RandomBytes(bytes(256))).hex().startswith(prefix)
    assert {name: encode_response(response).hex() for name, response in GENUINE_RESPONSES.items()} == vectors
    for name, response in GENUINE_RESPONSES.items():
        assert decode_response(bytes.fromhex(vectors[name])) == response


@given(REQUESTS)
def test_a_request_survives_its_bytes(request: Request) -> None:
    """Reading is the inverse of writing."""
    assert decode_request(encode_request(request)) == request


@given(RESPONSES)
def test_a_response_survives_its_bytes(response: Response) -> None:
    """Reading is the inverse of writing."""
    assert decode_response(encode_response(response)) == response


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        (encode_cbor({"Attestation": {}}), Attest()),
        (encode_cbor({"Attestation": {"nonce": b"n", "more": 1}}), Attest(nonce=b"n")),
        (encode_cbor({"DescribePCR": {"more": [1], "index": 3}}), DescribePcr(3)),
        (b"\xbf\x6bDescribePCR\xbf\x65index\x18\x03\xff\xff", DescribePcr(3)),
        (b"\xb8\x01\x78\x07LockPCR\xa1\x65index\x19\x00\x10", LockPcr(16)),
        (encode_cbor({"ExtendPCR": {"index": 16, "data": "x"}}), ExtendPcr(16, b"x")),
        (encode_cbor({"Attestation": {"nonce": "\xe9"}}), Attest(nonce=b"\xc3\xa9")),
        (encode_cbor({"GetRandom": None}), GetRandom()),
    ],
    ids=[
        "no fields",
        "some fields",
        "foreign fields",
        "indefinite maps",
        "long heads",
        "text as bytes",
        "text as optional bytes",
        "null for no fields",
    ],
)
def test_requests_are_read_as_leniently_as_by_aws(data: bytes, request_: Request) -> None:
    """Missing optional and unknown fields, texts for bytes and other encoders' habits are understood."""
    assert decode_request(data) == request_


WRONG = {
    "nothing": (b"", ErrorCode.INVALID_OPERATION),
    "garbage": (b"\xff\x00\xff", ErrorCode.INVALID_OPERATION),
    "trailing byte": (encode_cbor("GetRandom") + b"\x00", ErrorCode.INVALID_OPERATION),
    "unknown name": (encode_cbor("Reboot"), ErrorCode.INVALID_OPERATION),
    "lower case": (encode_cbor("getrandom"), ErrorCode.INVALID_OPERATION),
    "unknown name with fields": (encode_cbor({"Reboot": {}}), ErrorCode.INVALID_OPERATION),
    "number": (b"\x00", ErrorCode.INVALID_OPERATION),
    "array": (encode_cbor(["GetRandom"]), ErrorCode.INVALID_OPERATION),
    "empty map": (b"\xa0", ErrorCode.INVALID_OPERATION),
    "two names": (encode_cbor({"LockPCR": {"index": 16}, "GetRandom": {}}), ErrorCode.INVALID_OPERATION),
    "numbered name": (encode_cbor({1: {"index": 16}}), ErrorCode.INVALID_OPERATION),
    "duplicate field": (b"\xa1\x67LockPCR\xa2\x65index\x10\x65index\x11", ErrorCode.INVALID_OPERATION),
    "tag": (b"\xc0\x69GetRandom", ErrorCode.INVALID_OPERATION),
    "depth": (b"\x81" * 4096, ErrorCode.INVALID_OPERATION),
    "no fields where needed": (encode_cbor("LockPCR"), ErrorCode.INVALID_OPERATION),
    "null fields": (encode_cbor({"LockPCR": None}), ErrorCode.INVALID_OPERATION),
    "missing field": (encode_cbor({"ExtendPCR": {"index": 16}}), ErrorCode.INVALID_OPERATION),
    "index as text": (encode_cbor({"LockPCR": {"index": "16"}}), ErrorCode.INVALID_OPERATION),
    "index true": (encode_cbor({"LockPCR": {"index": True}}), ErrorCode.INVALID_OPERATION),
    "index negative": (encode_cbor({"LockPCR": {"index": -1}}), ErrorCode.INVALID_OPERATION),
    "index too large for its type": (encode_cbor({"LockPCR": {"index": 65536}}), ErrorCode.INVALID_OPERATION),
    "range too large for its type": (
        encode_cbor({"LockPCRs": {"range": 65536}}),
        ErrorCode.INVALID_OPERATION,
    ),
    "fields where there are none": (encode_cbor({"GetRandom": {}}), ErrorCode.INVALID_OPERATION),
    "no fields where all may be absent": (encode_cbor("Attestation"), ErrorCode.INVALID_OPERATION),
    "data null": (encode_cbor({"ExtendPCR": {"index": 16, "data": None}}), ErrorCode.INVALID_OPERATION),
    "data as numbers": (encode_cbor({"ExtendPCR": {"index": 16, "data": [1]}}), ErrorCode.INVALID_OPERATION),
    "nonce as number": (encode_cbor({"Attestation": {"nonce": 1}}), ErrorCode.INVALID_OPERATION),
    "nonce false": (encode_cbor({"Attestation": {"nonce": False}}), ErrorCode.INVALID_OPERATION),
    "too large": (bytes(MAX_REQUEST + 1), ErrorCode.INPUT_TOO_LARGE),
}


@pytest.mark.parametrize(("data", "code"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_has_its_error(data: bytes, code: ErrorCode) -> None:
    """What is no request of the seven is refused with the code that the guest will see."""
    with pytest.raises(MessageError) as caught:
        decode_request(data)
    assert caught.value.code is code


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_cbor({"Error": "Nonsense"}),
        encode_cbor({"Error": None}),
        encode_cbor("Reboot"),
        encode_cbor({"GetRandom": {"random": "text"}}),
        encode_cbor({"DescribePCR": {"lock": 1, "data": b""}}),
        encode_cbor({"DescribeNSM": {}}),
        encode_response(GENUINE_RESPONSES["DescribeNSM"]).replace(b"\x90\x00\x01", b"\x90\xf5\x01"),
        bytes(MAX_RESPONSE + 1),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_refused(data: bytes) -> None:
    """The guest's end believes no malformed answer."""
    with pytest.raises(MessageError):
        decode_response(data)
