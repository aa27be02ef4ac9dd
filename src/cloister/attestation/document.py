"""The attestation document: what a security module states about an enclave, and its CBOR form.

Follows ``nitro-tools.md`` section 5.4 and, where AWS's text and its genuine documents disagree, the documents
(``kms-and-attestation.md`` sections 3.2 and 3.4): optional fields are present and null or absent, byte fields
hold 0 to 1024 bytes, PCR banks may be sparse. Stricter than the text: values are 48 bytes, no unknown fields,
and the map of registers is definite.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Self

from cloister.cose import CborError, IndefiniteMap, decode_cbor, encode_cbor
from cloister.errors import CloisterError
from cloister.pcrs import PCR_COUNT, PCR_SIZE, ZERO_PCR

MAX_FIELD = 1024  # bytes of user_data, nonce and public_key (kms-and-attestation.md, section 3.2)
MAX_MODULE_ID = 128  # characters; genuine ones have 39
NITROTPM_PCR_COUNT = 24  # kms-and-attestation.md, section 3.4
_DIGEST = "SHA384"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = int((datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH).total_seconds()) * 1000
_ENCLAVE_PCRS = "pcrs"
_NITROTPM_PCRS = "nitrotpm_pcrs"
_MANDATORY = {"module_id", "digest", "timestamp", "certificate", "cabundle"}
_OPTIONAL = {"public_key", "user_data", "nonce"}


class DocumentError(CloisterError):
    """The payload is not an attestation document; ``part`` is ``payload`` or ``fields``."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document's content; nothing in it is to be believed before ``verify`` returned it.

    It cannot be changed, so it may be shared. It is no key for a dictionary: two equal contents may have come
    in different bytes, and the same statement may be signed often.
    """

    module_id: str
    """1 to 128 printable ASCII characters: instance id, and ``-enc`` or ``-tpm`` with 16 digits."""
    timestamp: int
    """Milliseconds since 1970 (UTC)."""
    pcrs: Mapping[int, bytes]
    """Registers by number, 48 bytes each: the enclave's, or the NitroTPM's when ``nitrotpm`` is set.

    Read-only. Ascending if the signer wrote them so; a register that the signer left out is not here.
    """
    certificate: bytes
    """The signer's certificate, DER, 1 to 1024 bytes."""
    cabundle: tuple[bytes, ...]
    """Its issuers, DER, root first."""
    public_key: bytes | None = None
    """0 to 1024 bytes, of whatever form the enclave chose; null and absent are None."""
    user_data: bytes | None = None
    """0 to 1024 bytes; null and absent are None."""
    nonce: bytes | None = None
    """0 to 1024 bytes; null and absent are None."""
    nitrotpm: bool = False
    """Whether a NitroTPM made it (``kms-and-attestation.md`` section 3.4), not an enclave."""

    def __post_init__(self) -> None:
        """Keep a copy of the registers that nobody can change."""
        object.__setattr__(self, "pcrs", MappingProxyType(dict(self.pcrs)))

    @property
    def time(self) -> datetime:
        """When the document was made, to the millisecond (UTC)."""
        return _EPOCH + timedelta(milliseconds=self.timestamp)

    @property
    def debug(self) -> bool:
        """Whether an enclave made it in debug mode: PCR0, PCR1 and PCR2 are all zero or missing."""
        return not self.nitrotpm and all(self.pcrs.get(index, ZERO_PCR) == ZERO_PCR for index in range(3))

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Read and check the payload of a signed document; raise DocumentError."""
        try:
            fields = decode_cbor(payload, max_depth=3)
        except CborError as error:
            raise DocumentError("payload", f"the payload is not acceptable CBOR: {error}") from error
        if not isinstance(fields, dict):
            raise DocumentError("payload", "the payload is not a CBOR map")
        bank = _bank_of(fields)
        return cls(
            module_id=_module_id(fields["module_id"]),
            timestamp=_timestamp(fields["timestamp"]),
            pcrs=_pcrs(fields[bank], NITROTPM_PCR_COUNT if bank == _NITROTPM_PCRS else PCR_COUNT),
            certificate=_bytes("certificate", fields["certificate"]),
            cabundle=_cabundle(fields["cabundle"]),
            public_key=_optional("public_key", fields.get("public_key")),
            user_data=_optional("user_data", fields.get("user_data")),
            nonce=_optional("nonce", fields.get("nonce")),
            nitrotpm=bank == _NITROTPM_PCRS,
        )

    def to_bytes(self, *, indefinite: bool = True) -> bytes:
        """Return the payload in AWS's key order, as an indefinite map (since June 2025) or a definite one."""
        fields = {
            "module_id": self.module_id,
            "digest": _DIGEST,
            "timestamp": self.timestamp,
            _NITROTPM_PCRS if self.nitrotpm else _ENCLAVE_PCRS: dict(sorted(self.pcrs.items())),
            "certificate": self.certificate,
            "cabundle": list(self.cabundle),
            "public_key": self.public_key,
            "user_data": self.user_data,
            "nonce": self.nonce,
        }
        return encode_cbor(IndefiniteMap(fields) if indefinite else fields)


def _wrong(message: str) -> DocumentError:
    return DocumentError("fields", message)


def _bank_of(fields: dict[Any, Any]) -> str:
    """Check which fields there are, and return the name of the one PCR bank among them."""
    names = set(fields)
    banks = names & {_ENCLAVE_PCRS, _NITROTPM_PCRS}
    if len(banks) != 1:
        raise _wrong(
            f"a document has one bank of PCRs, '{_ENCLAVE_PCRS}' or '{_NITROTPM_PCRS}', not {len(banks)}"
        )
    if missing := sorted(_MANDATORY - names):
        raise _wrong(f"the document has no field '{missing[0]}'")
    if len(names - _MANDATORY - _OPTIONAL - banks):
        raise _wrong("the document has a field that no attestation document has")
    if fields["digest"] != _DIGEST:
        raise _wrong(f"the document's digest is not {_DIGEST}")
    return str(next(iter(banks)))


def _module_id(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_MODULE_ID:
        raise _wrong(f"module_id is not a text of 1 to {MAX_MODULE_ID} characters")
    if not (value.isascii() and value.isprintable()):
        raise _wrong("module_id holds characters other than printable ASCII")
    return value


def _timestamp(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LAST:
        raise _wrong("timestamp is not a time in milliseconds since 1970")
    return value


def _pcrs(value: Any, count: int) -> dict[int, bytes]:
    if not isinstance(value, dict) or isinstance(value, IndefiniteMap) or not 1 <= len(value) <= count:
        raise _wrong(f"the PCR bank is not a definite map of 1 to {count} registers")
    for index, register in value.items():
        if not isinstance(index, int) or not 0 <= index < count:
            raise _wrong(f"a PCR's number is not one of 0 to {count - 1}")
        if not isinstance(register, bytes) or len(register) != PCR_SIZE:
            raise _wrong(f"PCR{index} is not a byte string of {PCR_SIZE} bytes, as SHA384 demands")
    return value


def _bytes(name: str, value: Any) -> bytes:
    if not isinstance(value, bytes) or not 1 <= len(value) <= MAX_FIELD:
        raise _wrong(f"{name} is not a byte string of 1 to {MAX_FIELD} bytes")
    return value


def _cabundle(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not value:
        raise _wrong("cabundle is not an array of at least one certificate")
    return tuple(_bytes("a cabundle entry", entry) for entry in value)


def _optional(name: str, value: Any) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, bytes) or len(value) > MAX_FIELD:
        raise _wrong(f"{name} is neither null nor a byte string of at most {MAX_FIELD} bytes")
    return value
