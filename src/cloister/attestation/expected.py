"""What a verifier must know beforehand, and whether it can be held against a document at all."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.attestation.document import MAX_FIELD, NITROTPM_PCR_COUNT
from cloister.pcrs import IMAGE_PCRS, PCR_COUNT, PCR_SIZE, SIGNER_PCR, measure_bytes
from cloister.pki import CertificateCache, Revocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the verifier knows of the enclave; what is None is not compared.

    Without expected PCRs and without an expected signer nothing is accepted. Only ``any_pcrs`` lifts that:
    whoever sets it must judge the returned registers, as a policy engine does, or learns merely that some
    enclave somewhere, perhaps the attacker's own, signed the rest.
    """

    pcrs: Mapping[int, bytes] | None = None
    """Registers an enclave's document must show, 48 bytes each by number (0 to 31).

    A NitroTPM's document never satisfies them. PCR0 alone does not fix an image: name PCR0, PCR1 and PCR2.
    """
    nitrotpm_pcrs: Mapping[int, bytes] | None = None
    """Registers a NitroTPM's document must show (0 to 23); an enclave's never satisfies them."""
    signer: x509.Certificate | None = None
    """The certificate that signed the enclave's image, as PCR8 measures it.

    Any image of that signer passes, old ones with known faults among them: add ``pcrs`` for a certain image.
    """
    any_pcrs: bool = False
    """Accept an enclave or a NitroTPM of any registers; those that are given are compared all the same."""
    nonce: bytes | None = None
    """The verifier's challenge: at least 16 random bytes, used once. Proves freshness, not who asked."""
    user_data: bytes | None = None
    public_key: bytes | None = None
    max_age: timedelta | None = None
    """Largest age; a document may lie as far ahead of now, but never more than 5 minutes.

    Left out, any moment of the signing certificate's three hours will do, as in AWS's procedure."""
    allow_debug: bool = False
    """Accept an enclave in debug mode, whose console anybody on its parent can read."""
    revoked: Collection[Revocation] = field(default=frozenset(), repr=False)
    """Certificates that no chain may hold; best a set. AWS's own procedure fetches no revocation lists."""
    reconstruct: bool = False
    """Rebuild the payload out of what is expected, and of the content for the rest, and demand that these
    very bytes were signed, so that no fault in reading can lie. Refuses a payload in another order of fields
    than AWS's, which is otherwise accepted."""

    @property
    def registers(self) -> Mapping[int, bytes]:
        """The registers to compare, by number; of the enclave or of the NitroTPM."""
        if self.signer is None:
            return self.pcrs or self.nitrotpm_pcrs or {}
        return {**(self.pcrs or {}), SIGNER_PCR: measure_bytes(self.signer.public_bytes(Encoding.DER))}

    def fault(self, now: datetime | None) -> str | None:
        """Return why no document can or may meet this at the given time; None if one can."""
        return (
            self._fault_of_types(now)
            or self._missing()
            or _fault_of_registers(self.pcrs, PCR_COUNT)
            or _fault_of_registers(self.nitrotpm_pcrs, NITROTPM_PCR_COUNT)
            or self._vacuous()
            or self._fault_of_fields()
            or self._fault_of_times(now)
        )

    def _fault_of_types(self, now: Any) -> str | None:
        """Name what is of another type than it is declared, as callers without a type checker have it."""
        for name, bank in (("pcrs", self.pcrs), ("nitrotpm_pcrs", self.nitrotpm_pcrs)):
            if bank is not None and not isinstance(bank, Mapping):
                return f"{name} maps a register's number to 48 bytes, and is {_type(bank)}"
        if self.signer is not None and not isinstance(self.signer, x509.Certificate):
            return f"the expected signer is a certificate (of cryptography.x509), not {_type(self.signer)}"
        if self.max_age is not None and not isinstance(self.max_age, timedelta):
            return f"max_age is a datetime.timedelta, not {_type(self.max_age)}"
        if now is not None and not isinstance(now, datetime):
            return f"the time to verify at is a datetime.datetime with a time zone, not {_type(now)}"
        for name in ("any_pcrs", "allow_debug", "reconstruct"):
            if not isinstance(getattr(self, name), bool):
                return f"{name} is True or False, not {_type(getattr(self, name))}"
        revoked: Any = self.revoked
        if not isinstance(revoked, Collection) or (revoked and not isinstance(next(iter(revoked)), tuple)):
            return f"revoked holds Revocation(issuer, serial) alone, and is {_type(self.revoked)}"
        return None

    def _missing(self) -> str | None:
        if not (self.any_pcrs or self.pcrs or self.nitrotpm_pcrs or self.signer is not None):
            return "no expected PCRs or signer were given, nor was it said that any will do"
        empty = any(bank is not None and not bank for bank in (self.pcrs, self.nitrotpm_pcrs))
        if empty and not self.any_pcrs:
            return "the expected PCRs are an empty set, which every document would meet"
        if self.nitrotpm_pcrs and (self.pcrs or self.signer is not None):
            return "an enclave's PCRs or signer and a NitroTPM's PCRs cannot both be expected of one document"
        return None

    def _vacuous(self) -> str | None:
        registers = self.registers
        if self.pcrs and self.pcrs.get(SIGNER_PCR, registers.get(SIGNER_PCR)) != registers.get(SIGNER_PCR):
            return f"the expected PCR{SIGNER_PCR} is not that of the expected signer"
        zero = not any(any(value) for value in registers.values())
        debug = not self.nitrotpm_pcrs and set(registers) & set(IMAGE_PCRS)  # what such zeros say, if allowed
        if zero and not self.any_pcrs and not debug:
            return "the expected PCRs are all zero, which says nothing about an enclave"
        return None

    def _fault_of_fields(self) -> str | None:
        fields: tuple[tuple[str, Any], ...] = (
            ("nonce", self.nonce),
            ("user_data", self.user_data),
            ("public_key", self.public_key),
        )
        for name, value in fields:
            if value is None:
                continue
            if not isinstance(value, bytes):
                return f"the expected {name} is not bytes but {_type(value)}"
            if not 1 <= len(value) <= MAX_FIELD:
                return f"the expected {name} has {len(value)} bytes, not 1 to {MAX_FIELD}"
        return None

    def _fault_of_times(self, now: datetime | None) -> str | None:
        if now is not None and now.utcoffset() is None:
            return "the time to verify at has no time zone"
        if self.max_age is not None and (now is None or self.max_age < timedelta(0)):
            return "a greatest age is not negative and needs a time to compare with"
        return None


def _fault_of_registers(bank: Mapping[Any, Any] | None, count: int) -> str | None:
    for index, value in (bank or {}).items():
        if isinstance(index, bool) or not isinstance(index, int):
            return f"a register's number is an int, not {_type(index)}"
        if not 0 <= index < count:
            return f"there is no PCR{index}: registers are 0 to {count - 1}"
        if not isinstance(value, bytes):
            return f"the expected PCR{index} is not bytes but {_type(value)}"
        if len(value) != PCR_SIZE:
            return f"the expected PCR{index} has {len(value)} bytes, not {PCR_SIZE}"
    return None


def fault_of_arguments(roots: Any, expect: Any, cache: Any) -> str | None:
    """Return which of ``verify``'s arguments has a type that nothing can be verified with; None if all do."""
    if isinstance(roots, x509.Certificate):
        return "roots is a sequence of certificates, and one certificate was given: [root] is one"
    if not isinstance(roots, Collection) or isinstance(roots, str | bytes | bytearray | memoryview):
        return f"roots is a sequence of certificates, as load_roots reads them, not {_type(roots)}"
    for root in roots:
        if not isinstance(root, x509.Certificate):
            return f"roots holds certificates, as load_roots reads them, not {_type(root)}"
    if not isinstance(expect, Expected):
        return f"what is expected is an Expected, not {_type(expect)}"
    if cache is not None and not isinstance(cache, CertificateCache):
        return f"the cache is a CertificateCache, not {_type(cache)}"
    return None


def _type(value: object) -> str:
    return "None" if value is None else type(value).__name__
