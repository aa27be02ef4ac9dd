"""The document's fields: round trips, and every wrong one refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.attestation import Document, DocumentError
from cloister.cose import IndefiniteMap, decode_cbor, encode_cbor

FIELDS: dict[str, Any] = {
    "module_id": "i-0123456789abcdef0-enc0198bc503b57519e",
    "digest": "SHA384",
    "timestamp": 1_762_795_210_812,
    "pcrs": {index: bytes([index]) * 48 for index in range(16)},
    "certificate": b"leaf",
    "cabundle": [b"root", b"instance"],
    "public_key": None,
    "user_data": b"",
    "nonce": b"n" * 1024,
}
BYTES = st.none() | st.binary(max_size=1024)
DOCUMENTS = st.builds(
    Document,
    module_id=st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=60),
    timestamp=st.integers(1, 1 << 45),
    pcrs=st.dictionaries(st.integers(0, 23), st.binary(min_size=48, max_size=48), min_size=1),
    certificate=st.binary(min_size=1, max_size=1024),
    cabundle=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5).map(tuple),
    public_key=BYTES,
    user_data=BYTES,
    nonce=BYTES,
    nitrotpm=st.booleans(),
)


@given(document=DOCUMENTS, indefinite=st.booleans())
def test_a_document_survives_its_bytes(document: Document, *, indefinite: bool) -> None:
    """Reading is the inverse of writing, in both encodings."""
    data = document.to_bytes(indefinite=indefinite)
    assert data[0] == (0xBF if indefinite else 0xA9)
    assert Document.from_bytes(data) == document


def test_the_bytes_are_those_of_aws() -> None:
    """Keys in AWS's order, the time in 8 bytes, null for what is absent, definite maps inside."""
    document = Document.from_bytes(encode_cbor(FIELDS))
    data = document.to_bytes()
    assert data.startswith(b"\xbf\x69module_id\x78\x27i-")
    assert b"\x69timestamp\x1b\x00\x00\x01\x9a" in data
    assert b"\x64pcrs\xb0\x00\x58\x30" in data
    assert b"\x68cabundle\x82" in data
    assert data.endswith(b"\x6apublic_key\xf6\x69user_data\x40\x65nonce\x59\x04\x00" + b"n" * 1024 + b"\xff")
    assert list(decode_cbor(data)) == list(FIELDS)


def test_optional_fields_may_be_absent() -> None:
    """A document without public_key, user_data and nonce says the same as one where they are null."""
    short = {name: FIELDS[name] for name in list(FIELDS)[:6]}
    document = Document.from_bytes(encode_cbor(short))
    assert (document.public_key, document.user_data, document.nonce) == (None, None, None)


def test_banks_may_be_sparse() -> None:
    """A document may show single registers, up to number 31, or all of them."""
    document = Document.from_bytes(encode_cbor(FIELDS | {"pcrs": {31: b"\x01" * 48, 8: bytes(48)}}))
    assert document.pcrs == {31: b"\x01" * 48, 8: bytes(48)}
    full = Document.from_bytes(encode_cbor(FIELDS | {"pcrs": dict.fromkeys(range(32), b"\x02" * 48)}))
    assert len(full.pcrs) == 32


def test_debug_is_told_from_the_image_registers() -> None:
    """Zero or missing PCR0 to PCR2 mean debug mode, one of them set does not; a NitroTPM has none."""
    for bank, debug in (({4: b"\x01" * 48}, True), ({0: bytes(48)}, True), ({1: b"\x01" * 48}, False)):
        assert Document.from_bytes(encode_cbor(FIELDS | {"pcrs": bank})).debug is debug
    fields = {name: value for name, value in FIELDS.items() if name != "pcrs"}
    tpm = Document.from_bytes(encode_cbor(fields | {"nitrotpm_pcrs": {0: bytes(48)}}))
    assert tpm.nitrotpm
    assert not tpm.debug


NO_MAP = {
    "nothing": b"",
    "an array": b"\x80",
    "a text": b"\x61a",
    "trailing byte": encode_cbor(FIELDS) + b"\x00",
    "an unended map": encode_cbor(IndefiniteMap(FIELDS))[:-1],
    "a duplicate key": b"\xaa" + encode_cbor(FIELDS)[1:] + b"\x65nonce\xf6",
    "a duplicate register": encode_cbor(FIELDS | {"pcrs": 0}).replace(
        b"\x64pcrs\x00", b"\x64pcrs\xa2" + (b"\x00\x58\x30" + bytes(48)) * 2
    ),
    "a tagged time": encode_cbor(FIELDS).replace(b"timestamp\x1b", b"timestamp\xc1\x1b"),
    "an indefinite array": encode_cbor(FIELDS | {"cabundle": 0}).replace(
        b"cabundle\x00", b"cabundle\x9f\x41a\xff"
    ),
    "a deep value": encode_cbor(FIELDS | {"nonce": [[[[0]]]]}),
    "a long number": encode_cbor(FIELDS).replace(b"\x40\x65nonce", b"\x58\x00\x65nonce"),
}


@pytest.mark.parametrize("payload", NO_MAP.values(), ids=NO_MAP)
def test_a_payload_that_is_not_one_strict_map_is_refused(payload: bytes) -> None:
    """What is wrong as CBOR is refused as payload."""
    with pytest.raises(DocumentError) as caught:
        Document.from_bytes(payload)
    assert caught.value.part == "payload"


WRONG: dict[str, dict[Any, Any]] = {
    "empty module id": {"module_id": ""},
    "module id as bytes": {"module_id": b"i-0"},
    "long module id": {"module_id": "i" * 129},
    "module id with an escape": {"module_id": "i-\x1b[2J"},
    "module id beyond ASCII": {"module_id": "i-é"},
    "digest SHA256": {"digest": "SHA256"},
    "digest sha384": {"digest": "sha384"},
    "digest null": {"digest": None},
    "timestamp zero": {"timestamp": 0},
    "timestamp negative": {"timestamp": -1},
    "timestamp as text": {"timestamp": "1762795210812"},
    "timestamp true": {"timestamp": True},
    "timestamp after the year 9999": {"timestamp": 1 << 63},
    "pcrs null": {"pcrs": None},
    "pcrs as array": {"pcrs": [bytes(48)]},
    "pcrs empty": {"pcrs": {}},
    "33 pcrs": {"pcrs": dict.fromkeys(range(33), bytes(48))},
    "pcr 32": {"pcrs": {32: bytes(48)}},
    "pcr -1": {"pcrs": {-1: bytes(48)}},
    "pcr named by a text": {"pcrs": {"0": bytes(48)}},
    "pcr of 32 bytes": {"pcrs": {0: bytes(32)}},
    "pcr of 64 bytes": {"pcrs": {0: bytes(64)}},
    "pcr of 0 bytes": {"pcrs": {0: b""}},
    "pcr null": {"pcrs": {0: None}},
    "pcrs as indefinite map": {"pcrs": IndefiniteMap({0: bytes(48)})},
    "certificate empty": {"certificate": b""},
    "certificate null": {"certificate": None},
    "certificate of 1025 bytes": {"certificate": bytes(1025)},
    "cabundle empty": {"cabundle": []},
    "cabundle null": {"cabundle": None},
    "cabundle as bytes": {"cabundle": b"root"},
    "cabundle with an empty entry": {"cabundle": [b"root", b""]},
    "cabundle with a large entry": {"cabundle": [b"root", bytes(1025)]},
    "cabundle with a text": {"cabundle": ["root"]},
    "nonce of 1025 bytes": {"nonce": bytes(1025)},
    "nonce as text": {"nonce": "nonce"},
    "nonce false": {"nonce": False},
    "user data as number": {"user_data": 0},
    "public key as array": {"public_key": []},
    "unknown field": {"extra": None},
    "field named by a number": {0: None},
    "both banks": {"nitrotpm_pcrs": {0: bytes(48)}},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_field_is_refused(change: dict[Any, Any]) -> None:
    """Each field has one type and bounds."""
    with pytest.raises(DocumentError) as caught:
        Document.from_bytes(encode_cbor(FIELDS | change))
    assert caught.value.part == "fields"


@pytest.mark.parametrize("name", list(FIELDS)[:6])
def test_a_missing_field_is_refused(name: str) -> None:
    """All but the last three fields are mandatory."""
    fields = {other: value for other, value in FIELDS.items() if other != name}
    with pytest.raises(DocumentError) as caught:
        Document.from_bytes(encode_cbor(fields))
    assert caught.value.part == "fields"


def test_a_nitrotpm_has_24_registers() -> None:
    """Register 24 is beyond a NitroTPM's bank."""
    fields = {name: value for name, value in FIELDS.items() if name != "pcrs"}
    with pytest.raises(DocumentError, match="0 to 23"):
        Document.from_bytes(encode_cbor(fields | {"nitrotpm_pcrs": {24: bytes(48)}}))
