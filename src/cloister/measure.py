"""The platform configuration registers an image will have: PCR0, 1, 2 and, when it is signed, PCR8.

Only section payloads are measured, in file order: no headers, no metadata, no signature; so PCR0 alone does
not say where one section ends and the next begins, and a policy should name PCR0, 1 and 2. Spec:
nitro-tools 2.2, 1.4.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cloister.eif import Image, SectionType, SignatureError
from cloister.pcrs import ZERO_PCR, extend, measure_bytes

HASH_ALGORITHM: Final = "Sha384 { ... }"
"""nitro-cli's spelling up to 1.4 and in all its documentation; 1.5.0 prints another debug form."""
_CHUNK: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Measurements:
    """48 bytes each; ``pcr8`` is there for signed images alone."""

    pcr0: bytes
    pcr1: bytes
    pcr2: bytes
    pcr8: bytes | None = None

    def to_json(self) -> dict[str, str]:
        """Return nitro-cli's ``Measurements`` object, keys in its order."""
        shown = {"HashAlgorithm": HASH_ALGORITHM}
        shown |= {f"PCR{index}": value.hex() for index, value in self.registers().items()}
        return shown

    def registers(self) -> dict[int, bytes]:
        """Return the registers by index, ascending."""
        registers = {0: self.pcr0, 1: self.pcr1, 2: self.pcr2}
        return registers if self.pcr8 is None else registers | {8: self.pcr8}


def measure(image: Image) -> Measurements:
    """Measure an image; raises SignatureError when its signing certificate cannot be read.

    PCR0 and PCR1 share their beginning, so the boot part is hashed once; the customer's ramdisks are hashed
    for PCR0 and PCR2 at the same time, in two threads, since hashing releases the interpreter's lock.
    """
    measured = image.payloads(SectionType.KERNEL, SectionType.CMDLINE, SectionType.RAMDISK)
    boot_count = 3  # kernel, command line and the first ramdisk; the reader has made sure of their order
    customer = measured[boot_count:]
    boot = hashlib.sha384()
    _feed(boot, measured[:boot_count])
    everything, application = boot.copy(), hashlib.sha384()
    with ThreadPoolExecutor(max_workers=1) as helper:
        job = helper.submit(_feed, application, customer)
        _feed(everything, customer)
        job.result()
    pcr8 = None if image.signature is None else measure_bytes(image.signature.certificate_der)
    return Measurements(_register(everything), _register(boot), _register(application), pcr8)


def check_signature(image: Image, measurements: Measurements, now: datetime) -> None:
    """Verify the signature over PCR0 and the certificate's dates; raises SignatureError, also for none."""
    if image.signature is None:
        raise SignatureError("The EIF is not signed.")
    image.signature.verify(measurements.pcr0, now)


def _feed(digest: "hashlib._Hash", payloads: Sequence[memoryview]) -> None:
    for payload in payloads:
        for start in range(0, len(payload), _CHUNK):
            digest.update(payload[start : start + _CHUNK])


def _register(digest: "hashlib._Hash") -> bytes:
    return extend(ZERO_PCR, digest.digest())
