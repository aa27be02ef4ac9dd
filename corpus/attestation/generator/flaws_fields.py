"""Wrong in one field: missing, of another type, too small, too large (AWS attestation_process 3.2.2)."""

from collections.abc import Iterator
from typing import Any

from corpus.attestation.generator.cases import Case, Change, flaw
from corpus.attestation.generator.cases import field as exchanged
from corpus.attestation.generator.certificates import to_pem
from corpus.attestation.generator.draft import PCRS, Draft
from corpus.attestation.generator.reissue import padded

_STEP = "fields"
_AWS = "AWS attestation_process 3.2.2"


def flaws() -> Iterator[Case]:
    """Yield the cases."""
    yield from _missing_and_unknown()
    yield from _scalars()
    yield from _registers()
    yield from _certificates()
    yield from _optional()


def _wrong(name: str, field: str, value: Any, wrong: str, level: str = "document") -> Case:
    source = _AWS if level == "document" else "decision: what genuine documents have, and no more"
    return flaw(name, wrong, source, _STEP, exchanged(field, value), level)


def _missing_and_unknown() -> Iterator[Case]:
    for name in ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"):
        yield flaw(
            f"no-{name.replace('_', '-')}",
            f"the mandatory field {name} is missing",
            _AWS,
            _STEP,
            lambda draft, name=name: draft.fields.pop(name),  # type: ignore[misc]
        )
    yield _wrong("unknown-field", "hostname", "h", "there is a field hostname", "strictness")
    yield _wrong(
        "both-banks", "nitrotpm_pcrs", {4: PCRS[4]}, "there are pcrs and nitrotpm_pcrs", "strictness"
    )


def _scalars() -> Iterator[Case]:
    yield _wrong("module-id-empty", "module_id", "", "module_id is empty")
    yield _wrong("module-id-bytes", "module_id", b"i-0", "module_id is a byte string")
    yield _wrong("digest-sha256", "digest", "SHA256", "the digest is SHA256")
    yield _wrong("digest-lower-case", "digest", "sha384", "the digest is written sha384")
    made = Draft("").fields["timestamp"]
    times: tuple[tuple[str, Any, str], ...] = (
        ("zero", 0, "0"),
        ("negative", -made, "negative"),
        ("text", "2026-03-01T12:01:00Z", "a text"),
    )
    for name, value, what in times:
        yield _wrong(f"timestamp-{name}", "timestamp", value, f"the timestamp is {what}")
    yield _wrong("timestamp-largest", "timestamp", (1 << 64) - 1, "the timestamp is 2^64 - 1", "strictness")


def _bank(**changes: Any) -> dict[Any, Any]:
    return PCRS | {int(name[3:]): value for name, value in changes.items()}


def _registers() -> Iterator[Case]:
    yield _wrong("pcrs-empty", "pcrs", {}, "the PCR bank is empty")
    yield _wrong(
        "pcrs-33", "pcrs", {index: bytes([index]) * 48 for index in range(33)}, "there are 33 registers"
    )
    for index, what in ((32, "32"), (1 << 32, "2^32"), (-1, "-1")):
        yield _wrong(
            f"pcr-number-{what.replace('^', '-').replace(' ', '')}".replace("--", "-minus-"),
            "pcrs",
            PCRS | {index: PCRS[4]},
            f"there is a register {what}",
        )
    yield _wrong("pcr-number-text", "pcrs", PCRS | {"16": PCRS[4]}, "a register's number is a text")
    for size in (47, 49):
        yield _wrong(f"pcr-{size}-bytes", "pcrs", _bank(pcr0=b"\x11" * size), f"PCR0 has {size} bytes")
    for size in (32, 64):
        yield flaw(
            f"pcr-{size}-bytes",
            f"PCR0 has {size} bytes, the size of another digest than SHA384",
            "decision: 48 bytes, as the digest says; AWS's text allows 32 and 64",
            _STEP,
            exchanged("pcrs", _bank(pcr0=b"\x11" * size)),
            "strictness",
        )
    yield flaw(
        "nitrotpm-pcr-24",
        "a NitroTPM has a register 24",
        "decision: a NitroTPM has 24 registers",
        _STEP,
        lambda draft: draft.fields["nitrotpm_pcrs"].update({24: bytes(48)}),
        "strictness",
        given=nitrotpm,
    )


def nitrotpm(draft: Draft) -> None:
    """Make it the document of a NitroTPM: another name, and 24 registers."""
    draft.fields["module_id"] = draft.fields["module_id"].split("-enc")[0] + "-tpm0000000000000000"
    position = list(draft.fields).index("pcrs")
    items = list(draft.fields.items())
    bank = {index: PCRS.get(index, bytes(48)) for index in range(24)}
    items[position] = ("nitrotpm_pcrs", bank)
    draft.fields = dict(items)


def _pem(name: str) -> Change:
    def change(draft: Draft) -> None:
        if name == "leaf":
            draft.fields["certificate"] = to_pem(draft.der("leaf"))
        else:
            draft.fields["cabundle"] = [to_pem(draft.der(entry)) for entry in draft.chain if entry != "leaf"]

    return change


def _certificates() -> Iterator[Case]:
    yield _wrong("certificate-empty", "certificate", b"", "the certificate is empty")
    yield flaw("certificate-pem", "the certificate is PEM text", _AWS, _STEP, _pem("leaf"))
    yield flaw(
        "certificate-1025-bytes",
        "the certificate has more than 1024 bytes",
        _AWS,
        _STEP,
        padded("leaf", 1025),
        mended=padded("leaf", 1024),
    )
    yield flaw(
        "cabundle-1025-bytes",
        "the regional certificate has more than 1024 bytes",
        _AWS,
        _STEP,
        padded("regional", 1025),
        mended=padded("regional", 1024),
    )
    yield _wrong("cabundle-empty", "cabundle", [], "the cabundle is empty")
    for name, value, what in (("empty", b"", "an empty"), ("null", None, "a null")):
        yield flaw(
            f"cabundle-{name}-entry",
            f"the cabundle has {what} entry at its end",
            _AWS,
            _STEP,
            lambda draft, value=value: draft.fields.update(  # type: ignore[misc]
                cabundle=[*draft.certificates["cabundle"](), value]
            ),
        )


def _optional() -> Iterator[Case]:
    for name in ("public_key", "user_data", "nonce"):
        case = name.replace("_", "-")
        yield _wrong(f"{case}-1025-bytes", name, b"\x55" * 1025, f"{name} has 1025 bytes")
        yield _wrong(f"{case}-text", name, "text", f"{name} is a text")
    yield _wrong("public-key-map", "public_key", {1: 2}, "public_key is a map, as a COSE_Key is")
