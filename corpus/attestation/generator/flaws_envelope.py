"""Wrong as an envelope: size, CBOR, and the four parts of a COSE_Sign1 (RFC 9052, section 4.2)."""

from collections.abc import Callable, Iterator
from typing import Any

from corpus.attestation.generator.cases import Case, Change, flaw, having
from corpus.attestation.generator.encodings import Raw, chunked, head
from corpus.attestation.generator.reissue import authorities


def envelope(change: Callable[[bytes], bytes]) -> Change:
    """Change the finished document's bytes."""
    return having(envelope=change)


def part(index: int, change: Callable[[Any], Any]) -> Change:
    """Change how one of the four parts is written."""

    def items(parts: list[Any]) -> list[Any]:
        return [change(value) if place == index else value for place, value in enumerate(parts)]

    return having(items=items)


def several_signers(parts: list[Any]) -> list[Any]:
    """Write the parts as a COSE_Sign with one signer (RFC 9052, section 4.1)."""
    protected, unprotected, payload, signature = parts
    return [protected, unprotected, payload, [[protected, unprotected, signature]]]


def flaws() -> Iterator[Case]:
    """Yield the cases."""
    yield from _whole()
    yield from _around()
    yield from _array()
    yield from _parts()


def _whole() -> Iterator[Case]:
    aws, cose = "AWS attestation_process 3.1", "RFC 9052 4.2"
    yield flaw("empty-file", "there is no byte at all", cose, "size", envelope(lambda _: b""))
    yield flaw(
        "larger-than-16-kib",
        "a bundle of 25 authorities, each in order, makes the document larger than 16384 bytes",
        f"{aws}: payload of 1 to 16384 bytes",
        "size",
        authorities(25),
        mended=authorities(6),
    )
    yield flaw(
        "truncated",
        "the last byte is missing",
        "RFC 8949 appendix F: too little data",
        "envelope",
        envelope(lambda d: d[:-1]),
    )
    yield flaw(
        "trailing-byte",
        "a zero byte follows the envelope",
        "RFC 8949 appendix F: too much data",
        "envelope",
        envelope(lambda d: d + b"\x00"),
    )
    yield flaw(
        "deeply-wrapped",
        "the envelope stands inside 200 arrays",
        "RFC 8949 10: depth",
        "envelope",
        envelope(lambda d: b"\x81" * 200 + d),
    )


def _around() -> Iterator[Case]:
    for name, tag, what in (
        ("tag-mac0", "d1", "tag 17 (COSE_Mac0)"),
        ("tag-sign", "d862", "tag 98 (COSE_Sign)"),
        ("tag-twice", "d2d2", "tag 18 twice"),
    ):
        yield flaw(
            name,
            f"the envelope has {what} in front",
            "RFC 9052 2: tag 18 or none",
            "envelope",
            envelope(lambda d, tag=tag: bytes.fromhex(tag) + d),  # type: ignore[misc]
        )
    for name, tag, what in (("tag-18-long", "d812", "tag 18 in a longer form than needed"),):
        yield flaw(
            name,
            f"the envelope has {what} in front",
            "decision: tag 18 in its shortest form, or none",
            "envelope",
            envelope(lambda d, tag=tag: bytes.fromhex(tag) + d),  # type: ignore[misc]
            "strictness",
        )


def _array() -> Iterator[Case]:
    cose = "RFC 9052 4.2"
    yield flaw("five-parts", "a fifth part, null", cose, "envelope", having(items=lambda p: [*p, None]))
    yield flaw(
        "several-signers",
        "a COSE_Sign with one signer instead of a COSE_Sign1",
        cose,
        "envelope",
        having(items=several_signers),
    )
    yield flaw(
        "indefinite-array",
        "the envelope is an indefinite array",
        "decision: definite, as every genuine document",
        "envelope",
        envelope(lambda d: b"\x9f" + d[1:] + b"\xff"),
        "strictness",
    )
    yield flaw(
        "reserved-length",
        "the array's head has the reserved additional information 28",
        "RFC 8949 3: not well-formed",
        "envelope",
        envelope(lambda d: b"\x9c" + d[1:]),
    )


def _parts() -> Iterator[Case]:
    cose, strict = "RFC 9052 4.2", "decision: definite strings in their shortest form"
    wrong_types: tuple[tuple[str, str, int, Callable[[Any], Any]], ...] = (
        ("protected-as-map", "the protected header is a map, not a byte string", 0, Raw),
        ("unprotected-array", "the unprotected header is an empty array", 1, lambda _: []),
        ("payload-detached", "the payload is null, as if it came by another way", 2, lambda _: None),
        ("payload-as-map", "the payload is a map, not a byte string that holds one", 2, Raw),
    )
    for name, wrong, index, change in wrong_types:
        yield flaw(name, wrong, cose, "envelope", part(index, change))
    yield flaw(
        "payload-beyond-end",
        "the payload's head promises 2^64 - 1 bytes",
        "RFC 8949 3: not well-formed",
        "envelope",
        part(2, lambda p: Raw(head(2, (1 << 64) - 1) + p)),
    )
    yield flaw(
        "unprotected-deep",
        "the unprotected header nests 500 arrays",
        "RFC 8949 10: depth; AWS attestation_process 3.1: empty",
        "envelope",
        having(unprotected={99: Raw(b"\x81" * 500 + b"\x80")}),
    )
    for name, index in (("payload", 2), ("signature", 3)):
        yield flaw(
            f"{name}-indefinite",
            f"the {name} is an indefinite byte string of two chunks",
            strict,
            "envelope",
            part(index, lambda value: chunked(2, value)),
            "strictness",
        )
    yield flaw(
        "payload-long-head",
        "the length of the payload takes 4 bytes where 2 suffice",
        strict,
        "envelope",
        part(2, lambda p: Raw(head(2, len(p), 4) + p)),
        "strictness",
    )
