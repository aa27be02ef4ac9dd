"""Wrong as a payload: not one map, or CBOR that a document does not use (RFC 8949)."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from corpus.attestation.generator.cases import Case, Change, field, flaw, having
from corpus.attestation.generator.draft import PCRS, Draft
from corpus.attestation.generator.encodings import Raw, cbor, chunked, head, pairs

_STEP = "payload"
_STRICT = "RFC 8949 4.2; decision: shortest forms, definite strings and arrays"


def flaws() -> Iterator[Case]:
    """Yield the cases."""
    yield from _whole()
    yield from _duplicates()
    yield from _tags_and_numbers()
    yield from _indefinite()
    yield from _long_forms()


def written(change: Callable[[bytes], bytes]) -> Change:
    """Change the payload's bytes before they are signed."""
    return having(payload=change)


def rewritten(name: str, change: Callable[[bytes], Raw]) -> Change:
    """Write a byte or text field, an index or a certificate, in another way."""

    def apply(draft: Draft) -> None:
        value: Any = draft.certificates[name]() if name in draft.certificates else draft.fields[name]
        draft.fields[name] = change(value.encode() if isinstance(value, str) else value)

    return apply


def _whole() -> Iterator[Case]:
    source = "AWS attestation_process 3.2: the payload is one CBOR map"
    changes: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
        ("empty", "the payload has no byte", lambda _: b""),
        ("in-byte-string", "a byte string inside the payload holds the map", cbor),
        ("trailing-byte", "a zero byte follows the map inside the payload", lambda p: p + b"\x00"),
        ("count-too-large", "the map's head promises 10 pairs, and 9 follow", lambda p: b"\xaa" + p[1:-1]),
    )
    for name, wrong, change in changes:
        yield flaw(f"payload-{name}", wrong, source, _STEP, written(change))
    for name, payload in (("empty-map", b"\xa0"), ("empty-indefinite-map", b"\xbf\xff")):
        wrong = f"the payload is an empty {'map' if name == 'empty-map' else 'indefinite map'}"
        source = "AWS attestation_process 3.2.2: mandatory fields"
        yield flaw(f"payload-{name}", wrong, source, "fields", written(lambda _, new=payload: new))  # type: ignore[misc]


def _twice(name: str, value: Any, *, first: bool) -> Change:
    """Write a field a second time, before or behind the right one."""

    def write(fields: dict[Any, Any]) -> bytes:
        again = cbor(name) + cbor(fields[name] if value is ... else value)
        body = again + pairs(fields) if first else pairs(fields) + again
        return b"\xbf" + body + b"\xff"

    return having(write=write)


def _duplicates() -> Iterator[Case]:
    source = "RFC 8949 5.6: keys are unique; pitfall: duplicate keys"
    for name, value, what in (
        ("timestamp", 1, "timestamp twice, the second one of 1970"),
        ("pcrs", {0: bytes(48)}, "pcrs twice, the second one another"),
    ):
        yield flaw(
            f"duplicate-{name.replace('_', '-')}",
            f"the payload has {what}",
            source,
            _STEP,
            _twice(name, value, first=False),
        )
    yield flaw(
        "duplicate-public-key-first",
        "the payload has public_key twice, the first one another",
        source,
        _STEP,
        _twice("public_key", b"other", first=True),
    )
    yield flaw(
        "duplicate-pcr",
        "the PCR bank has register 0 twice, the second one zero",
        source,
        _STEP,
        field("pcrs", Raw(head(5, 17) + pairs(PCRS) + b"\x00" + cbor(bytes(48)))),
    )


def _tags_and_numbers() -> Iterator[Case]:
    source = "AWS attestation_process 3.2: types of the fields"

    def tagged(name: str, tag: bytes) -> Change:
        return rewritten(name, lambda value: Raw(tag + cbor(value)))

    for case, name, tag, what in (
        ("timestamp-tag-1", "timestamp", b"\xc1", "the timestamp has tag 1 (a time in seconds)"),
    ):
        yield flaw(case, what, source, _STEP, tagged(name, tag))
    made = Draft("").fields["timestamp"]
    for case, name, data, what in (
        ("timestamp-bignum", "timestamp", b"\xc2\x48" + made.to_bytes(8, "big"), "the timestamp is a bignum"),
        ("timestamp-float", "timestamp", _float(made), "the timestamp is a float"),
        ("nonce-undefined", "nonce", b"\xf7", "the nonce is undefined instead of null"),
        ("user-data-deep", "user_data", b"\x81" * 1000 + b"\x80", "user_data nests 1000 arrays"),
        ("module-id-bad-utf-8", "module_id", b"\x63i-\xff", "module_id is not UTF-8"),
    ):
        yield flaw(case, what, source, _STEP, field(name, Raw(data)))
    for case, index, what in (("pcr-index-float", b"\xf9\x00\x00", "the float 0.0"),):
        bank = head(5, 16) + index + cbor(PCRS[0]) + pairs(PCRS)[51:]
        yield flaw(case, f"a PCR's number is {what}", source, _STEP, field("pcrs", Raw(bank)))
    yield flaw(
        "field-name-bytes",
        "the name of the nonce is a byte string",
        source,
        _STEP,
        written(lambda p: p.replace(b"\x65nonce", b"\x45nonce")),
    )


def _float(value: int) -> bytes:
    return b"\xfb" + struct.pack(">d", value)


def _indefinite() -> Iterator[Case]:
    for name in ("certificate", "nonce", "user_data"):
        yield flaw(
            f"{name.replace('_', '-')}-indefinite",
            f"{name} is an indefinite byte string of two chunks",
            _STRICT,
            _STEP,
            rewritten(name, lambda value: chunked(2, value)),
            "strictness",
        )
    yield flaw(
        "cabundle-indefinite",
        "the cabundle is an indefinite array",
        _STRICT,
        _STEP,
        rewritten("cabundle", lambda value: Raw(b"\x9f" + cbor(value)[1:] + b"\xff")),
        "strictness",
    )
    yield flaw(
        "field-name-indefinite",
        "the name of the nonce is an indefinite text",
        _STRICT,
        _STEP,
        written(lambda p: p.replace(b"\x65nonce", chunked(3, b"nonce").data)),
        "strictness",
    )


def _long_forms() -> Iterator[Case]:
    bank = b"\x18\x00" + pairs(PCRS)[1:]
    for name, wrong, change in (
        (
            "pcr-index-long",
            "the number of PCR0 takes a byte of its own",
            field("pcrs", Raw(head(5, 16) + bank)),
        ),
        (
            "nonce-long-length",
            "the nonce's length takes 2 bytes where none is needed",
            rewritten("nonce", lambda value: Raw(head(2, len(value), 2) + value)),
        ),
    ):
        yield flaw(name, wrong, _STRICT, _STEP, change, "strictness")
