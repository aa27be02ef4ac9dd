"""Wrong in the headers: anything but the algorithm ES384, protected, and nothing unprotected."""

from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes

from corpus.attestation.generator.cases import Case, Change, flaw, having
from corpus.attestation.generator.encodings import Raw

_AWS = "AWS attestation_process 3.1: protected header {1: -35}"
_STRICT = "decision: the header is a1013822, byte for byte"


def flaws() -> Iterator[Case]:
    """Yield the cases; each signature covers the header as it stands."""
    for name, header, wrong in (
        ("es256", "a10126", "ES256"),
        ("es512", "a1013823", "ES512"),
        ("eddsa", "a10127", "EdDSA"),
    ):
        yield flaw(
            f"algorithm-{name}",
            f"the header's algorithm is {wrong}, and the signature is that of ES384",
            f"{_AWS}; pitfall: another algorithm than -35",
            "header",
            _protected(header),
        )
    yield flaw(
        "algorithm-es256-used",
        "header and signature are those of ES256 with the P-384 key",
        _AWS,
        "header",
        having(protected=bytes.fromhex("a10126"), hash=hashes.SHA256),
    )
    yield from _shape()
    yield from _strict()


def _shape() -> Iterator[Case]:
    yield flaw(
        "header-empty-map", "the protected header names no algorithm", _AWS, "header", _protected("a0")
    )
    yield flaw(
        "algorithm-unprotected",
        "the algorithm stands in the unprotected header alone",
        "RFC 9052 3.1: alg is authenticated where it can be",
        "header",
        having(protected=b"", unprotected={1: -35}),
    )
    yield flaw(
        "algorithm-twice",
        "the protected header has the algorithm twice",
        "RFC 9052 3: labels are unique",
        "header",
        _protected("a2013822013822"),
    )
    yield flaw(
        "critical-unknown",
        "the protected header makes the unknown label 999 critical",
        "RFC 9052 3.1: crit",
        "header",
        _protected("a301382202811903e71903e700"),
    )
    yield flaw(
        "header-trailing-byte",
        "a byte follows the protected header's map",
        "RFC 9052 3",
        "header",
        _protected("a101382200"),
    )


def _strict() -> Iterator[Case]:
    for name, header, wrong in (
        ("algorithm-esp384", "a1013832", "the algorithm is ESP384 (RFC 9864), the same by another name"),
        ("header-indefinite", "bf013822ff", "the protected header is an indefinite map"),
        ("header-key-id", "a201382204426964", "the protected header has a key id too"),
    ):
        yield flaw(name, wrong, _STRICT, "header", _protected(header), "strictness")
    aws = "AWS attestation_process 3.1: unprotected header empty; decision: never skipped"
    for name, unprotected, wrong in (
        ("unprotected-other-algorithm", {1: -7}, "the unprotected header says ES256"),
        ("unprotected-key-id", {4: b"id"}, "the unprotected header has a key id"),
    ):
        yield flaw(name, wrong, aws, "header", having(unprotected=unprotected), "strictness")
    yield flaw(
        "unprotected-indefinite",
        "the empty unprotected header is an indefinite map",
        "decision: a0, as every genuine document; it is not signed",
        "header",
        having(unprotected=Raw(b"\xbf\xff")),
        "strictness",
    )


def _protected(header: str) -> Change:
    return having(protected=bytes.fromhex(header))
