"""Strict CBOR against the reference library and against what it must refuse."""

from io import BytesIO
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.cose import CborError, IndefiniteMap, decode_cbor, encode_cbor

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=300)
    | st.text(max_size=40)
)
KEYS = st.integers(-(1 << 64), (1 << 64) - 1) | st.text(max_size=10)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


@given(VALUES)
def test_what_is_encoded_is_read_back(value: Any) -> None:
    """Decoding is the inverse of encoding."""
    assert decode_cbor(encode_cbor(value)) == value


@given(VALUES)
def test_the_reference_library_agrees(value: Any) -> None:
    """cbor2 writes the same bytes and reads ours as the same value."""
    ours = encode_cbor(value)
    assert ours == cbor2.dumps(value)
    assert cbor2.loads(ours) == value


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_read_as_cbor2_reads_them_or_refused(data: bytes) -> None:
    """Whatever we accept means the same to cbor2 and encodes to the same bytes; nothing else happens."""
    try:
        value = decode_cbor(data)
    except CborError:
        return
    assert encode_cbor(value) == data
    assert cbor2.load(BytesIO(data)) == value


@given(VALUES, st.data())
def test_truncated_data_is_refused(value: Any, data: st.DataObject) -> None:
    """No proper prefix of an encoded value is a value."""
    whole = encode_cbor(value)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CborError):
        decode_cbor(whole[:cut])


def test_an_indefinite_map_stays_one() -> None:
    """A map read from BF..FF is written so again, at every depth, and equals its content."""
    data = bytes.fromhex("bf01bf6161f6ff02a0ff")
    value = decode_cbor(data)
    assert isinstance(value, IndefiniteMap)
    assert value == {1: {"a": None}, 2: {}}
    assert encode_cbor(value) == data


REFUSED = {
    "nothing": "",
    "trailing byte": "0000",
    "duplicate integer key": "a201000100",
    "duplicate text key": "a2616100616100",
    "duplicate key in an indefinite map": "bf01000100ff",
    "true as key beside 1": "a20100f500",
    "byte string key": "a1416100",
    "array key": "a18000",
    "map key": "a1a000",
    "null key": "a1f600",
    "tag": "c000",
    "tag 18": "d280",
    "half float": "f93c00",
    "single float": "fa3f800000",
    "double float": "fb3ff0000000000000",
    "undefined": "f7",
    "simple value": "e0",
    "simple value in two bytes": "f8ff",
    "lone break": "ff",
    "break as a value": "a101ff",
    "break in the middle of a pair": "bf01ff",
    "indefinite array": "9f00ff",
    "indefinite byte string": "5f4100ff",
    "indefinite text": "7f6161ff",
    "indefinite integer": "1f",
    "indefinite negative": "3f",
    "reserved length 28": "1c",
    "reserved length 29": "5d",
    "reserved length 30": "9e",
    "one byte too many for its number": "1817",
    "two bytes too many": "190017",
    "four for two": "1a0000ffff",
    "eight for four": "1b00000000ffffffff",
    "long head of a short string": "580161",
    "string beyond the end": "4261",
    "huge string": "5bffffffffffffffff",
    "huge text": "7bffffffffffffffff",
    "huge array": "9bffffffffffffffff",
    "array longer than the data": "8200",
    "huge map": "bbffffffffffffffff",
    "unended indefinite map": "bf",
    "not UTF-8": "61ff",
    "UTF-8 surrogate": "63eda080",
    "overlong UTF-8": "62c080",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_not_allowed_is_refused(data: str) -> None:
    """Each form outside our subset is an error of ours, never another exception or a value."""
    with pytest.raises(CborError):
        decode_cbor(bytes.fromhex(data))


def test_long_heads_are_read_on_request() -> None:
    """A lenient reader accepts numbers that are not in their shortest form, and nothing more."""
    assert decode_cbor(bytes.fromhex("a16161190017"), minimal=False) == {"a": 23}
    with pytest.raises(CborError):
        decode_cbor(bytes.fromhex("a261610061610019"), minimal=False)


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x00", b"\xbf\x00"])
def test_depth_is_bounded(opening: bytes) -> None:
    """A depth bomb is refused at the bound, long before Python's own."""
    assert decode_cbor(b"\x81\x81\x00", max_depth=2) == [[0]]
    with pytest.raises(CborError, match="nested too deeply"):
        decode_cbor(b"\x81\x81\x81\x00", max_depth=2)
    with pytest.raises(CborError, match="nested too deeply"):
        decode_cbor(opening * 8000)


@pytest.mark.parametrize(
    "value", [1.5, {1.5: 0}, {b"k": 0}, {True: 0}, 1 << 64, -(1 << 64) - 1, "\ud800", object(), {1, 2}]
)
def test_what_has_no_encoding_is_refused(value: Any) -> None:
    """Values outside our subset cannot be written."""
    with pytest.raises(CborError):
        encode_cbor(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    """Encoding ends at the depth bound."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CborError):
        encode_cbor(loop)
