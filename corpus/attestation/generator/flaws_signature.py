"""Wrong as a signature: another value, another form, another key, or over other bytes (RFC 9052, 4.4)."""

from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives import hashes

from corpus.attestation.generator.cases import Case, Change, flaw, having
from corpus.attestation.generator.draft import PCRS, Draft, definite, sig_structure
from corpus.attestation.generator.encodings import INTEGER, SEQUENCE, cbor, der
from corpus.attestation.generator.keys import ORDER, digest, key, sign_raw

_STEP = "signature"
_ES384 = "RFC 9053 2.1"


def flaws() -> Iterator[Case]:
    """Yield the cases."""
    yield from _values()
    yield from _forms()
    yield from _signers()
    yield from _structures()
    yield from _altered_afterwards()


def _value(change: Callable[[bytes], bytes]) -> Change:
    return having(signature=change)


def _number(value: int) -> bytes:
    return value.to_bytes(48, "big")


def _values() -> Iterator[Case]:
    changes: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
        ("s-bit", "one bit of s is flipped", lambda s: s[:-1] + bytes([s[-1] ^ 1])),
        ("r-zero", "r is 0", lambda s: bytes(48) + s[48:]),
        ("s-zero", "s is 0", lambda s: s[:48] + bytes(48)),
        ("all-zero", "r and s are 0 (CVE-2022-21449)", lambda _: bytes(96)),
        ("s-order", "s is the group's order n", lambda s: s[:48] + _number(ORDER)),
    )
    for name, wrong, change in changes:
        yield flaw(f"signature-{name}", wrong, "FIPS 186-5 6.4.2", _STEP, _value(change))


def _as_der(signature: bytes) -> bytes:
    """Write a raw signature as DER has it (RFC 3279, section 2.2.3)."""
    halves = (signature[:48], signature[48:])
    numbers = [half.lstrip(b"\x00") for half in halves]
    return der(SEQUENCE, *(der(INTEGER, b"\x00" * (number[0] >> 7) + number) for number in numbers))


def _with_leading_zero(draft: Draft) -> None:
    """Try nonces until s begins with a zero byte, which shortens its plain number."""
    for attempt in range(10000):
        draft.fields["nonce"] = digest(f"nonce/{attempt}", 20)
        payload = draft.signed_payload()
        signer = draft.chain["leaf"].key
        if sign_raw(signer, sig_structure(draft.protected, payload), hashes.SHA384)[48] == 0:
            return
    raise AssertionError("no nonce gives an s that begins with a zero byte")


def _forms() -> Iterator[Case]:
    changes: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
        ("der", "the signature is DER instead of r and s, 48 bytes each", _as_der),
        ("empty", "the signature is empty", lambda _: b""),
        ("95-bytes", "the last byte of s is missing", lambda s: s[:-1]),
        ("64-zeros", "the signature is 64 zero bytes, as QEMU's virtio-nsm writes", lambda _: bytes(64)),
    )
    for name, wrong, change in changes:
        yield flaw(f"signature-{name}", wrong, _ES384, _STEP, _value(change))
    yield flaw(
        "signature-zero-stripped",
        "s begins with a zero byte, which is left out",
        _ES384,
        _STEP,
        _value(lambda s: s[:48] + s[49:]),
        given=_with_leading_zero,
    )


def _signers() -> Iterator[Case]:
    source = "AWS attestation_process 3.2: the leaf's key signs"
    yield flaw(
        "signed-by-stranger",
        "a key signs that no certificate of the chain holds",
        source,
        _STEP,
        having(signer=key("stranger")),
    )
    yield flaw(
        "signed-by-instance",
        "the instance authority's key signs instead of the leaf's",
        source,
        _STEP,
        having(signer=key("instance")),
    )
    yield flaw(
        "signed-by-other-leaf",
        "the key of another enclave of the same instance signs",
        source,
        _STEP,
        having(signer=key("other-leaf")),
    )


def _structures() -> Iterator[Case]:
    structures: tuple[tuple[str, str, Callable[[Draft, bytes], bytes]], ...] = (
        (
            "other-header",
            "the signature covers the header {1: -7} instead of the one that is there",
            lambda _, payload: sig_structure(bytes.fromhex("a10126"), payload),
        ),
        (
            "context-signature",
            "the signature's context is Signature, that of COSE_Sign",
            lambda draft, payload: sig_structure(draft.protected, payload, context="Signature"),
        ),
        (
            "external-data",
            "the signature covers external data that nobody agreed on",
            lambda draft, payload: sig_structure(draft.protected, payload, external=b"aws"),
        ),
        ("bare-payload", "the signature covers the payload alone", lambda _, payload: payload),
        (
            "definite-payload",
            "the signature covers the payload written again as a definite map",
            lambda draft, _: sig_structure(draft.protected, _again(draft)),
        ),
    )
    for name, wrong, change in structures:
        yield flaw(f"over-{name}", wrong, "RFC 9052 4.4", _STEP, having(to_be_signed=change))
    yield flaw(
        "hashed-with-sha256",
        "the signature is made with SHA-256 under the header ES384",
        _ES384,
        _STEP,
        having(hash=hashes.SHA256),
    )


def _again(draft: Draft) -> bytes:
    """Write the payload as a verifier would that decodes and encodes it (pitfall: re-encoding)."""
    write, draft.write = draft.write, definite
    payload = draft.signed_payload()
    draft.write = write
    return payload


def _replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        if payload.count(old) != 1 or len(old) != len(new):
            raise AssertionError("what is to be altered stands there once")
        return payload.replace(old, new)

    return change


def _altered_afterwards() -> Iterator[Case]:
    source = "AWS attestation_process 3.2: the signature covers the payload"

    def altered(name: str, wrong: str, old: bytes, new: bytes) -> Case:
        return flaw(f"altered-{name}", wrong, source, _STEP, having(published=_replaced(old, new)))

    yield altered("pcr0", "PCR0 was exchanged after signing", PCRS[0], digest("pcr/other", 48))
    made = Draft("").fields["timestamp"]
    yield altered(
        "timestamp",
        "the time was put ahead by a second after signing",
        made.to_bytes(8, "big"),
        (made + 1000).to_bytes(8, "big"),
    )
    yield flaw(
        "altered-map-form",
        "the payload was written again as a definite map after signing",
        "pitfall: the received bytes are signed, not what they mean",
        _STEP,
        having(published=lambda payload: b"\xa9" + payload[1:-1]),
    )
    yield flaw(
        "altered-leaf",
        "the certificate was exchanged for another enclave's of the same instance after signing",
        source,
        _STEP,
        _other_leaf,
    )


def _other_leaf(draft: Draft) -> None:
    own = draft.der("leaf")
    other = Draft("other")
    other.rekey("leaf", key("other-leaf"))
    exchanged = other.der("leaf")
    draft.published = lambda payload: payload.replace(cbor(own), cbor(exchanged))
