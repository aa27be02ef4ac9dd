"""Right documents, so that a verifier that refuses everything does not pass."""

from collections.abc import Iterator
from datetime import timedelta

from corpus.attestation.generator.cases import Case, Change, expecting, field, having, sound, together
from corpus.attestation.generator.certificates import AUTHORITY_KEY, SUBJECT_KEY
from corpus.attestation.generator.draft import AUTHORITIES, MADE, NOW, PCRS, Draft, definite, milliseconds
from corpus.attestation.generator.flaws_expectations import expected, registers, reordered, revoking
from corpus.attestation.generator.flaws_fields import nitrotpm
from corpus.attestation.generator.keys import ORDER, digest
from corpus.attestation.generator.reissue import (
    UNKNOWN,
    authorities,
    begins,
    dropped,
    ends,
    extended,
    negated_der,
    padded,
)

_AWS = "AWS attestation_process 3.2"


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield sound("plain", f"{_AWS}; genuine documents since June 2025")
    yield sound("definite-map", "genuine documents before June 2025", having(write=definite))
    yield sound("tag-18", "RFC 9052 2", having(envelope=lambda document: b"\xd2" + document))
    yield sound(
        "signature-other-form", "FIPS 186-5: (r, n - s) is a signature too", having(signature=_negated)
    )
    yield sound("optional-null", "genuine documents: null, not absent", _optional(None))
    yield sound("optional-absent", f"{_AWS}.2.2: optional fields", _absent)
    yield sound("optional-empty", "genuine documents: a public_key of no bytes", _optional(b""))
    yield sound("fields-sorted", "RFC 8949 5.6: a map has no order", reordered)
    yield sound("optional-1024-bytes", f"{_AWS}.2.2", _large)
    yield from _banks()
    yield from _chains()
    yield from _boundaries()
    yield from _expectations()


def _negated(signature: bytes) -> bytes:
    return signature[:48] + (ORDER - int.from_bytes(signature[48:], "big")).to_bytes(48, "big")


def _optional(value: bytes | None) -> Change:
    return together(*(field(name, value) for name in ("public_key", "user_data", "nonce")))


def _absent(draft: Draft) -> None:
    for name in ("public_key", "user_data", "nonce"):
        del draft.fields[name]


def _large(draft: Draft) -> None:
    for name in ("public_key", "user_data", "nonce"):
        draft.fields[name] = digest(f"large/{name}", 1024)


def _banks() -> Iterator[Case]:
    all_registers = {index: PCRS.get(index, digest(f"pcr/{index}", 48)) for index in range(32)}
    yield sound("pcrs-32", f"{_AWS}.2.2: 1 to 32 registers", field("pcrs", all_registers))
    sparse = {index: PCRS[index] for index in (0, 1, 2, 3, 4, 8)}
    yield sound("pcrs-sparse", f"{_AWS}.2.2: any of 0 to 31", field("pcrs", sparse))
    yield sound("nitrotpm", "NitroTPM documents: nitrotpm_pcrs, 24 registers", nitrotpm)


def _chains() -> Iterator[Case]:
    yield sound(
        "instance-without-key-ids",
        "genuine chains: older instance certificates have no SKI and AKI",
        dropped("instance", SUBJECT_KEY, AUTHORITY_KEY),
    )
    yield sound("chain-of-six", f"{_AWS}: any number of intermediate authorities", authorities(6))
    unknown = extended("leaf", UNKNOWN, b"\x05\x00", b"")
    yield sound(
        "extension-not-critical", "RFC 5280 4.2: what is unknown and not critical is ignored", unknown
    )
    yield sound(
        "certificate-signature-other-form",
        "FIPS 186-5: (r, n - s) is a signature too",
        lambda draft: draft.change("leaf", signed=negated_der),
    )
    yield sound("certificate-1024-bytes", f"{_AWS}.2.2: 1 to 1024 bytes", padded("leaf", 1024))


def _boundaries() -> Iterator[Case]:
    source, now = "RFC 5280 4.1.2.5: both ends are inclusive", timedelta(0)
    for name in (*AUTHORITIES, "leaf"):
        yield sound(f"{name}-ends-now", source, ends(name, now))
        yield sound(f"{name}-begins-now", source, begins(name, now))


def _expectations() -> Iterator[Case]:
    yield sound("pcrs-expected", "the expected PCRs are there", expected(0, 1, 2, 3, 4, 8), "expectations")
    yield sound(
        "everything-expected",
        "PCRs, nonce, user_data, public_key and age are as expected",
        _everything,
        "expectations",
    )
    yield sound(
        "nitrotpm-expected",
        "the expected registers of a NitroTPM are there",
        together(nitrotpm, expecting(nitrotpm_pcrs={"4": PCRS[4].hex()})),
        "expectations",
    )
    zeros = registers(pcr0=bytes(48), pcr1=bytes(48), pcr2=bytes(48))
    yield sound(
        "other-certificate-revoked",
        "the verifier's list revokes another certificate of the same issuer",
        revoking("instance", serial=7),
        "expectations",
    )
    yield sound(
        "debug-allowed",
        "debug mode was allowed",
        together(zeros, expecting(allow_debug=True), expected(3)),
        "expectations",
    )
    yield sound(
        "as-old-as-allowed",
        "the bound itself is allowed",
        together(field("timestamp", milliseconds(NOW - timedelta(seconds=60))), expecting(max_age=60)),
        "expectations",
    )


def _everything(draft: Draft) -> None:
    nonce, key = digest("expected/nonce", 32), digest("expected/public_key", 294)
    draft.fields |= {"nonce": nonce, "public_key": key, "timestamp": milliseconds(MADE)}
    expected(0, 1, 2)(draft)
    draft.expect |= {
        "nonce": nonce.hex(),
        "user_data": draft.name.encode().hex(),
        "public_key": key.hex(),
        "max_age": 300,
    }
