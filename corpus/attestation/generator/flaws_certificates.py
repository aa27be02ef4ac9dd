"""Wrong as a certificate: DER, version, dates, extensions, algorithms, curves (RFC 5280, 4.1; X.690)."""

from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from corpus.attestation.generator.cases import Case, Change, flaw
from corpus.attestation.generator.certificates import (
    BASIC_CONSTRAINTS,
    ECDSA_SHA256,
    KEY_USAGE,
    TRUE,
    Certificate,
)
from corpus.attestation.generator.draft import Draft, chain
from corpus.attestation.generator.encodings import (
    BIT_STRING,
    BOOLEAN,
    GENERALIZED_TIME,
    INTEGER,
    OBJECT,
    OCTET_STRING,
    SEQUENCE,
    UTC_TIME,
    content,
    der,
    elements,
    integer,
)
from corpus.attestation.generator.keys import ORDER, key
from corpus.attestation.generator.reissue import UNKNOWN, changed, extended

_STEP = "certificates"
_DER = "X.690 (DER); RFC 5280 4.1"
_NULL = b"\x05\x00"
_P384 = (1 << 384) - (1 << 128) - (1 << 96) + (1 << 32) - 1
_B = 0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF
_G = bytes.fromhex(
    "04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7"
    "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f"
)


def flaws() -> Iterator[Case]:
    """Yield the cases."""
    yield from _versions_and_serials()
    yield from _trailing()
    yield from _canonical()
    yield from _dates()
    yield from _extensions()
    yield from _algorithms()
    yield from _keys()


def _versions_and_serials() -> Iterator[Case]:
    source = "RFC 5280 4.1.2.1: version 3 where there are extensions"
    yield flaw(
        "leaf-version-1",
        "the leaf is a version 1 certificate, without extensions",
        "AWS attestation_process 3.2.3: basicConstraints, keyUsage",
        _STEP,
        changed("leaf", version=b"", extensions=()),
    )
    yield flaw(
        "leaf-version-2",
        "the leaf says version 2 and has extensions",
        source,
        _STEP,
        changed("leaf", version=der(0xA0, integer(1))),
    )
    yield flaw(
        "leaf-serial-zero",
        "the leaf's serial number is 0",
        "RFC 5280 4.1.2.2: positive, though it asks readers to be lenient; decision: not part of the profile",
        _STEP,
        changed("leaf", serial=integer(0)),
        "strictness",
    )


def _trailing() -> Iterator[Case]:
    for name in ("instance", "leaf"):
        yield flaw(
            f"{name}-trailing-byte",
            f"a zero byte follows the {name} certificate",
            _DER,
            _STEP,
            changed(name, final=lambda d: d + b"\x00"),
        )
    yield flaw(
        "leaf-trailing-signed",
        "a null follows the leaf's extensions inside the signed part",
        _DER,
        _STEP,
        changed("leaf", after=_NULL),
    )


def _canonical() -> Iterator[Case]:
    one = der(BOOLEAN, b"\x01")
    for name, wrong, change in (
        (
            "instance-boolean-ca",
            "the instance's cA is TRUE written 01 instead of ff",
            extended("instance", BASIC_CONSTRAINTS, der(SEQUENCE, one, integer(0))),
        ),
        (
            "instance-usage-unused-bits",
            "the instance's keyUsage 04 is written with 0 unused bits instead of 2",
            extended("instance", KEY_USAGE, der(BIT_STRING, b"\x00\x04")),
        ),
        (
            "leaf-default-ca",
            "the leaf writes the default FALSE of cA out",
            extended("leaf", BASIC_CONSTRAINTS, der(SEQUENCE, der(BOOLEAN, b"\x00"))),
        ),
        (
            "instance-path-length-padded",
            "the instance's pathLen is written 0000 instead of 00",
            extended("instance", BASIC_CONSTRAINTS, der(SEQUENCE, TRUE, der(INTEGER, b"\x00\x00"))),
        ),
        (
            "leaf-long-length",
            "the leaf's length takes 3 bytes where 2 suffice",
            changed("leaf", final=_long_length),
        ),
        ("leaf-ber-indefinite", "the leaf has BER's indefinite length", changed("leaf", final=_indefinite)),
    ):
        yield flaw(name, wrong, _DER, _STEP, change)


def _long_length(certificate: bytes) -> bytes:
    body = content(certificate)
    return b"\x30\x83" + len(body).to_bytes(3, "big") + body


def _indefinite(certificate: bytes) -> bytes:
    return b"\x30\x80" + content(certificate) + b"\x00\x00"


def _dates() -> Iterator[Case]:
    source = "RFC 5280 4.1.2.5"
    for name, tag, text, wrong in (
        ("february-30", UTC_TIME, b"260230120000Z", "is 30 February"),
        ("generalized", GENERALIZED_TIME, b"20260301115957Z", "is a GeneralizedTime before 2050"),
    ):
        yield flaw(
            f"leaf-date-{name}",
            f"the leaf's notBefore {wrong}",
            source,
            _STEP,
            changed("leaf", not_before=der(tag, text)),
        )


def _again(oid: bytes) -> Change:
    def change(draft: Draft) -> None:
        certificate = draft.chain["leaf"].certificate
        draft.change("leaf", extensions=(*certificate.extensions, certificate.extension(oid)))

    return change


def _extensions() -> Iterator[Case]:
    yield flaw(
        "leaf-extension-twice", "the leaf has keyUsage twice", "RFC 5280 4.2", _STEP, _again(KEY_USAGE)
    )
    for name in ("instance", "leaf"):
        yield flaw(
            f"{name}-critical-unknown",
            f"the {name} certificate has a critical extension that nobody knows (2.999.1)",
            "RFC 5280 4.2",
            "algorithms",
            extended(name, UNKNOWN, _NULL),
        )
    narrowing = "decision: what narrows a certificate's use is refused, not half honoured"
    server_auth = der(SEQUENCE, der(OBJECT, bytes.fromhex("2b06010505070301")))
    yield flaw(
        "leaf-key-purpose",
        "the leaf is for TLS servers (extKeyUsage)",
        narrowing,
        "algorithms",
        extended("leaf", bytes.fromhex("551d25"), server_auth, b""),
        "strictness",
    )


def _algorithms() -> Iterator[Case]:
    strict = "decision: ecdsa-with-SHA384, as every genuine certificate"
    for name in ("instance", "leaf"):
        yield flaw(
            f"{name}-ecdsa-sha256",
            f"the {name} certificate is signed with ecdsa-with-SHA256",
            strict,
            "algorithms",
            changed(name, inner=ECDSA_SHA256, outer=ECDSA_SHA256, hash=hashes.SHA256),
            "strictness",
        )
    source = "RFC 5280 4.1.1.2: the same algorithm inside and outside"
    yield flaw(
        "leaf-algorithm-outer",
        "the leaf says ecdsa-with-SHA256 outside the signed part, and is signed with SHA-384",
        source,
        "algorithms",
        changed("leaf", outer=ECDSA_SHA256),
    )
    with_null = der(SEQUENCE, der(OBJECT, bytes.fromhex("2a8648ce3d040303")), _NULL)
    yield flaw(
        "leaf-algorithm-null",
        "the leaf's algorithm has NULL parameters",
        "RFC 5758 3.2: parameters are absent",
        "algorithms",
        changed("leaf", inner=with_null, outer=with_null),
    )


def _rekeyed(name: str, curve: type[ec.EllipticCurve]) -> Change:
    return lambda draft: draft.rekey(name, key(f"other-{name}", curve))


def _keys() -> Iterator[Case]:
    for curve, label in (
        (ec.SECP256R1, "P-256"),
        (ec.SECP521R1, "P-521"),
        (ec.BrainpoolP384R1, "brainpoolP384r1"),
    ):
        yield flaw(
            f"leaf-curve-{label.lower()}",
            f"the leaf holds a {label} key, which signed the document with SHA-384",
            "pitfall: another key than P-384",
            "algorithms",
            _rekeyed("leaf", curve),
        )
    for name, curve, label in (
        ("instance", ec.SECP256R1, "P-256"),
        ("root", ec.SECP256R1, "P-256"),
    ):
        yield flaw(
            f"{name}-curve-{label.lower()}",
            f"the {name} certificate holds a {label} key",
            "decision: P-384, as every genuine certificate",
            "algorithms",
            _rekeyed(name, curve),
            "strictness",
        )
    own = chain()["leaf"].certificate
    for name, changed_key, wrong, level in (
        ("explicit-curve", _explicit(own), "writes its curve's parameters out (CVE-2020-0601)", "document"),
        ("off-curve", _off_curve(own), "holds a point that is not on the curve", "document"),
        ("compressed", _compressed(own), "holds its point in compressed form", "strictness"),
    ):
        yield flaw(
            f"leaf-key-{name}",
            f"the leaf {wrong}",
            "RFC 5480 2.1; decision: a named curve and an uncompressed point",
            "algorithms",
            changed("leaf", public_key=changed_key),
            level,
        )


def _point(own: Certificate) -> bytes:
    """Return the key's uncompressed point."""
    return own.public_key[-97:]


def _info(algorithm: bytes, point: bytes) -> bytes:
    return der(SEQUENCE, algorithm, der(BIT_STRING, b"\x00", point))


def _algorithm(own: Certificate) -> bytes:
    return elements(content(own.public_key))[0]


def _off_curve(own: Certificate) -> bytes:
    point = _point(own)
    return _info(_algorithm(own), point[:-1] + bytes([point[-1] ^ 1]))


def _compressed(own: Certificate) -> bytes:
    point = _point(own)
    return _info(_algorithm(own), bytes([2 | point[-1] & 1]) + point[1:49])


def _explicit(own: Certificate) -> bytes:
    """Write the curve as ECParameters (SEC 1, C.2)."""
    prime_field = der(OBJECT, bytes.fromhex("2a8648ce3d0101"))
    parameters = der(
        SEQUENCE,
        integer(1),
        der(SEQUENCE, prime_field, integer(_P384)),
        der(SEQUENCE, *(der(OCTET_STRING, number.to_bytes(48, "big")) for number in (_P384 - 3, _B))),
        der(OCTET_STRING, _G),
        integer(ORDER),
        integer(1),
    )
    identifier = elements(content(_algorithm(own)))[0]
    return _info(der(SEQUENCE, identifier, parameters), _point(own))
