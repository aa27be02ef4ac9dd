"""Not what the verifier expects: PCRs, debug mode, nonce, user data, public key, time and age."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from corpus.attestation.generator.cases import Case, Change, expecting, field, flaw, together
from corpus.attestation.generator.draft import MADE, NOW, PCRS, Draft, milliseconds
from corpus.attestation.generator.encodings import content
from corpus.attestation.generator.flaws_fields import nitrotpm
from corpus.attestation.generator.keys import digest
from corpus.attestation.generator.reissue import ends, negated_der

_LEVEL = "expectations"
_ZERO = bytes(48)


def flaws() -> Iterator[Case]:
    """Yield the cases."""
    yield from _registers()
    yield from _debug()
    yield from _fields()
    yield from _times()
    yield from _revocations()
    yield flaw(
        "reconstruction-other-order",
        "the fields stand in another order than AWS's, and the verifier rebuilds the payload to compare",
        "decision: whoever asks for reconstruction gets AWS's bytes or a refusal",
        "reconstruction",
        reordered,
        _LEVEL,
        given=together(expecting(reconstruct=True), expected(0, 1, 2)),
    )


def reordered(draft: Draft) -> None:
    """Put the fields into alphabetical order."""
    draft.fields = dict(sorted(draft.fields.items()))


def revoking(name: str, *, serial: int | None = None) -> Change:
    """Hand the verifier a list that revokes a certificate of the chain, or another of the same issuer."""

    def change(draft: Draft) -> None:
        certificate = draft.chain[name].certificate
        number = content(certificate.serial).hex() if serial is None else f"{serial:02x}"
        draft.expect["revoked"] = [{"issuer": certificate.issuer.hex(), "serial": number}]

    return change


def _revocations() -> Iterator[Case]:
    source, step = "decision: an operator's list by issuer and serial number, RFC 5280 5.1.2.6", "revocation"
    for name in ("instance", "leaf"):
        yield flaw(
            f"{name}-revoked",
            f"the verifier's list revokes the {name} certificate",
            source,
            step,
            revoking(name),
            _LEVEL,
            mended=revoking(name, serial=7),
        )
    yield flaw(
        "instance-revoked-other-form",
        "the verifier's list revokes the instance certificate, whose signature is the other form (n - s)",
        f"{source}; pitfall: revocation by fingerprint",
        step,
        revoking("instance"),
        _LEVEL,
        given=lambda draft: draft.change("instance", signed=negated_der),
        mended=revoking("instance", serial=7),
    )


def registers(**changes: bytes | None) -> Change:
    """Exchange registers, or leave them out (None)."""

    def change(draft: Draft) -> None:
        bank = draft.fields["pcrs"]
        for name, value in changes.items():
            if value is None:
                del bank[int(name[3:])]
            else:
                bank[int(name[3:])] = value

    return change


def expected(*indexes: int) -> Change:
    """Expect the registers that a right document has."""
    return expecting(pcrs={str(index): PCRS[index].hex() for index in indexes})


def _registers() -> Iterator[Case]:
    source, step = "AWS: the verifier compares PCRs; CVE-2025-64186", "pcrs"
    other = digest("pcr/other", 48)
    for index, what in (
        (0, "PCR0 is another image's"),
        (1, "PCR1 is another kernel's"),
        (2, "PCR2 is another application's"),
        (3, "PCR3 is another role's"),
        (4, "PCR4 is another instance's"),
        (8, "PCR8 is another signer's"),
    ):
        given = expected(0, index) if index else expected(0)
        change = registers(**{f"pcr{index}": other})
        yield flaw(f"pcr{index}-other", what, source, step, change, _LEVEL, given=given)
    for index in (0, 8):
        yield flaw(
            f"pcr{index}-absent",
            f"PCR{index} is expected, and the document does not show it",
            source,
            step,
            registers(**{f"pcr{index}": None}),
            _LEVEL,
            given=expected(0, 1, 2, index),
        )
    yield flaw(
        "pcr15-absent-zero",
        "PCR15 is expected to be zero, and the document does not show it",
        source,
        step,
        registers(pcr15=None),
        _LEVEL,
        given=expected(0, 15),
    )
    yield flaw(
        "pcr8-zero",
        "PCR8 is zero: the image is not signed by the expected signer",
        source,
        step,
        registers(pcr8=_ZERO),
        _LEVEL,
        given=expected(8),
    )
    yield from _platforms()


def _platforms() -> Iterator[Case]:
    source, step = "pitfall: platforms confused", "pcrs"
    yield flaw(
        "nitrotpm-for-enclave",
        "a NitroTPM's registers have the values that are expected of an enclave's",
        source,
        step,
        nitrotpm,
        _LEVEL,
        given=expected(0, 4),
    )
    yield flaw(
        "enclave-for-nitrotpm",
        "an enclave's registers have the values that are expected of a NitroTPM's",
        source,
        step,
        lambda _: None,
        _LEVEL,
        given=expecting(nitrotpm_pcrs={"4": PCRS[4].hex()}),
        mended=nitrotpm,
    )
    yield flaw(
        "no-expected-pcrs",
        "the set of expected PCRs is empty, which everything would satisfy",
        "pitfall: an empty expectation taken for a match",
        "expectations",
        expecting(pcrs={}),
        _LEVEL,
        mended=expected(0),
    )


def _debug() -> Iterator[Case]:
    source, step = "AWS: PCRs are zero in debug mode; pitfall: debug documents accepted", "debug"
    zeros = registers(pcr0=_ZERO, pcr1=_ZERO, pcr2=_ZERO)
    yield flaw("debug-zeros", "PCR0, PCR1 and PCR2 are zero: debug mode", source, step, zeros, _LEVEL)
    yield flaw(
        "debug-expected-zeros",
        "PCR0, PCR1 and PCR2 are zero as expected, and debug mode was not allowed",
        source,
        step,
        together(zeros, expecting(pcrs={str(index): _ZERO.hex() for index in range(3)})),
        _LEVEL,
        mended=expected(0, 1, 2),
    )
    yield flaw(
        "debug-role-alone",
        "PCR0, PCR1 and PCR2 are zero, and the expected PCR3 is right",
        source,
        step,
        zeros,
        _LEVEL,
        given=expected(3),
    )
    yield flaw(
        "debug-absent",
        "PCR0, PCR1 and PCR2 are not there",
        f"{source}; decision: absent is zero",
        step,
        registers(pcr0=None, pcr1=None, pcr2=None),
        "strictness",
    )


def _fields() -> Iterator[Case]:
    for name in ("nonce", "user_data", "public_key"):
        right = digest(f"expected/{name}", 32)
        case = name.replace("_", "-")
        values: tuple[tuple[str, Any, str], ...] = (
            ("other", digest(f"other/{name}", 32), "is another than the expected one"),
            ("absent", None, "is null, and one is expected"),
            ("cut-short", right[:-1], "is the expected one without its last byte"),
        )
        for kind, value, what in values[: 3 if name == "nonce" else 2]:
            yield flaw(
                f"{case}-{kind}",
                f"the document's {name} {what}",
                "AWS: nonce, user_data and public_key are the verifier's to compare; pitfall: nonce optional",
                name,
                field(name, value),
                _LEVEL,
                given=together(expecting(**{name: right.hex()}), field(name, right)),
            )
    right = digest("expected/nonce", 32)
    yield flaw(
        "nonce-in-user-data",
        "the expected nonce stands in user_data",
        "pitfall: fields confused",
        "nonce",
        together(field("nonce", None), field("user_data", right)),
        _LEVEL,
        given=expecting(nonce=right.hex()),
        mended=field("nonce", right),
    )


def _made(seconds: float) -> Change:
    """Let the document be made that long after the time of verification."""
    return field("timestamp", milliseconds(NOW + timedelta(seconds=seconds)))


def _times() -> Iterator[Case]:
    pitfall = "pitfall: the document's time is never compared"
    for name, seconds, bound, wrong in (
        ("too-old", -60.001, 60, "the document is 60.001 s old, and 60 s are allowed"),
        ("too-early", 60.001, 60, "the document is from 60.001 s in the future, and 60 s are allowed"),
    ):
        mended = _made(bound if seconds > 0 else -bound)
        given = expecting(max_age=bound)
        yield flaw(name, wrong, pitfall, "age", _made(seconds), _LEVEL, given=given, mended=mended)
    yield flaw(
        "future",
        "the document is from 5 minutes and a second in the future, and an hour of age is allowed",
        "decision: whatever age is allowed, a document lies at most 5 minutes ahead",
        "age",
        _made(301),
        "strictness",
        given=expecting(max_age=3600),
        mended=_made(300),
    )
    strict = "decision: a document's time lies in its leaf's life"
    yield flaw(
        "made-before-leaf",
        "the document is from before its certificate's notBefore",
        strict,
        "timestamp",
        _made(-124),
        "strictness",
        mended=_made(-123),
    )
    second = timedelta(seconds=1)
    yield flaw(
        "made-after-leaf",
        "the document is from after its certificate's notAfter, which has not come yet",
        strict,
        "timestamp",
        _made(2),
        "strictness",
        given=ends("leaf", second),
        mended=_made(1),
    )
    yield flaw(
        "made-in-seconds",
        "the document's time is in seconds instead of milliseconds",
        strict,
        "timestamp",
        field("timestamp", milliseconds(MADE) // 1000),
        "strictness",
    )
