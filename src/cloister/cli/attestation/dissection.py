"""A document taken apart without judging it: what can be read is shown, and what is wrong is said.

``cloister.attestation.verify`` stops at the first thing that is wrong; a person who wants to know why reads
on. Nothing here is to be believed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cloister.attestation import MAX_DOCUMENT
from cloister.cli.attestation.certificates import CertificateView, view_certificate
from cloister.cli.table import plain
from cloister.cose import CborError, IndefiniteMap, decode_cbor
from cloister.errors import CloisterError
from cloister.pcrs import PCR_SIZE

_TAG = b"\xd2"  # tag 18, RFC 9052, section 2
_ALGORITHMS: Final = {-7: "ES256", -35: "ES384", -36: "ES512"}  # RFC 9053, table 1
_BANKS: Final = ("pcrs", "nitrotpm_pcrs")
_FIELDS: Final = (
    "module_id",
    "digest",
    "timestamp",
    *_BANKS,
    "certificate",
    "cabundle",
    "public_key",
    "user_data",
    "nonce",
)
OPTIONAL: Final = ("nonce", "user_data", "public_key")
_MODULE_ID = re.compile(r"(i-[0-9a-f]{8,17})-enc([0-9a-f]{16})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_CERTIFICATES: Final = 16
_MOST_PROBLEMS: Final = 20
_MAX_MILLISECONDS: Final = 253_402_300_799_999
"""The last moment that has a date of four digits."""


class UndecodableError(CloisterError):
    """The bytes are no document at all: there is nothing to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleParts:
    """What a Nitro module id is made of (nitro-tools.md, section 5.4)."""

    instance_id: str
    enclave_id: str
    started: datetime
    """From the slot's uid, whose upper 48 bits are milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dissection:
    """An unverified document's parts; ``problems`` has a sentence for whatever cannot be read."""

    size: int
    tagged: bool
    algorithm: str
    signature: bytes
    indefinite: bool
    """Whether the payload is a map of indefinite length, as AWS writes it since June 2025."""
    fields: Mapping[Any, Any]
    nitrotpm: bool
    pcrs: Mapping[int, bytes]
    certificates: tuple[CertificateView, ...]
    """Root first, the signer last."""
    problems: tuple[str, ...] = field(default=())

    @property
    def module_id(self) -> str | None:
        """The module's name, if it is a text."""
        value = self.fields.get("module_id")
        return value if isinstance(value, str) else None

    @property
    def module(self) -> ModuleParts | None:
        """The module id taken apart, if it has Nitro's form."""
        found = _MODULE_ID.fullmatch(self.module_id or "")
        if found is None:
            return None
        started = _moment(int(found[2], 16) >> 16)
        if started is None:
            return None
        return ModuleParts(instance_id=found[1], enclave_id=f"enc{found[2]}", started=started)

    @property
    def time(self) -> datetime | None:
        """When the document says it was made."""
        value = self.fields.get("timestamp")
        return _moment(value) if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def debug(self) -> bool:
        """Whether the registers are those of an enclave in debug mode."""
        return not self.nitrotpm and not any(any(self.pcrs.get(index, b"")) for index in range(3))

    def value(self, name: str) -> bytes | None:
        """Return one of the optional fields."""
        value = self.fields.get(name)
        return value if isinstance(value, bytes) else None


def dissect(document: bytes) -> Dissection:
    """Take a document apart; raise UndecodableError when it is none."""
    tagged = document[:1] == _TAG
    try:
        envelope = decode_cbor(document[len(_TAG) :] if tagged else document, minimal=False)
    except CborError as error:
        raise UndecodableError(f"this is no attestation document: {error}") from error
    match envelope:
        case [bytes(protected), unprotected, bytes(payload), bytes(signature)]:
            pass
        case _:
            raise UndecodableError(
                "this is no attestation document: a COSE_Sign1 is an array of a byte string, a map, and two "
                "byte strings"
            )
    try:
        fields = decode_cbor(payload, minimal=False)
    except CborError as error:
        raise UndecodableError(f"the payload, {len(payload)} bytes, cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise UndecodableError(f"the payload, {len(payload)} bytes, is not a CBOR map")
    problems: list[str] = []
    if unprotected != {}:
        problems.append("the unprotected header is not an empty map")
    if len(document) > MAX_DOCUMENT:
        problems.append(f"it has {len(document)} bytes, and no document has more than {MAX_DOCUMENT}")
    _name_problems(fields, problems)
    return Dissection(
        size=len(document),
        tagged=tagged,
        algorithm=_algorithm(protected),
        signature=signature,
        indefinite=isinstance(fields, IndefiniteMap),
        fields=fields,
        nitrotpm=_BANKS[1] in fields and _BANKS[0] not in fields,
        pcrs=_registers(fields, problems),
        certificates=_certificates(fields, problems),
        problems=tuple(problems[:_MOST_PROBLEMS]),
    )


def _moment(milliseconds: int) -> datetime | None:
    if not 0 <= milliseconds <= _MAX_MILLISECONDS:
        return None
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _algorithm(protected: bytes) -> str:
    """Name the algorithm of the protected header, or show the header where that is not all it holds."""
    try:
        header = decode_cbor(protected)
    except CborError:
        header = None
    if isinstance(header, dict) and list(header) == [1] and isinstance(header[1], int):
        return _ALGORITHMS.get(header[1], f"algorithm {header[1]}")
    return f"a header of {len(protected)} bytes ({protected[:16].hex()})"


def _name_problems(fields: Mapping[Any, Any], problems: list[str]) -> None:
    """Say which fields are missing, unknown, or of the wrong type."""
    problems += [f"there is no field '{name}'" for name in _FIELDS[:3] if name not in fields]
    unknown = [name for name in fields if name not in _FIELDS]
    problems += [f"no attestation document has a field {plain(repr(name))[:60]}" for name in unknown]
    if not isinstance(fields.get("module_id", ""), str):
        problems.append("module_id is not a text")
    if fields.get("digest", "SHA384") != "SHA384":
        problems.append(f"the digest is {plain(repr(fields['digest']))[:60]}, not SHA384")
    stamp = fields.get("timestamp", 1)
    if not isinstance(stamp, int) or isinstance(stamp, bool) or _moment(stamp) is None:
        problems.append(f"the timestamp, {plain(repr(stamp))[:60]}, is not a time in milliseconds since 1970")
    for name in OPTIONAL:
        if not isinstance(fields.get(name), bytes | None):
            problems.append(f"{name} is neither null nor a byte string")


def _registers(fields: Mapping[Any, Any], problems: list[str]) -> dict[int, bytes]:
    """Return the registers of the one bank that can be read."""
    banks = [name for name in _BANKS if name in fields]
    if len(banks) != 1:
        problems.append(f"there are {len(banks)} banks of PCRs, one was expected")
    if not banks:
        return {}
    bank = fields[banks[0]]
    if not isinstance(bank, dict):
        problems.append(f"{banks[0]} is not a map")
        return {}
    registers = {}
    for index, value in bank.items():
        if isinstance(index, int) and isinstance(value, bytes):
            registers[index] = value
            if len(value) != PCR_SIZE:
                problems.append(f"PCR{index} has {len(value)} bytes, not {PCR_SIZE}")
        else:
            problems.append(f"{banks[0]} holds {plain(repr(index))[:40]}, which is no PCR")
    return dict(sorted(registers.items()))


def _certificates(fields: Mapping[Any, Any], problems: list[str]) -> tuple[CertificateView, ...]:
    bundle, leaf = fields.get("cabundle"), fields.get("certificate")
    if not isinstance(bundle, list):
        problems.append("cabundle is not an array")
        bundle = []
    if not isinstance(leaf, bytes):
        problems.append("certificate is not a byte string")
    ders = [*bundle, leaf]
    if bundle and not all(isinstance(der, bytes) for der in bundle):
        problems.append("cabundle holds something else than certificates")
    if len(ders) > _MOST_CERTIFICATES:
        problems.append(f"cabundle holds {len(bundle)} certificates, of which {_MOST_CERTIFICATES} are shown")
    return tuple(view_certificate(der) for der in ders[:_MOST_CERTIFICATES] if isinstance(der, bytes))
