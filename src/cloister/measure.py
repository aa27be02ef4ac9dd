"""The platform configuration registers an image will have: PCR0, 1, 2 and, when it is signed, PCR8.

Only section payloads are measured, in file order: no headers, no metadata, no signature; so PCR0 alone does
not say where one section ends and the next begins, and a policy should name PCR0, 1 and 2. Spec:
nitro-tools 2.2, 1.4.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from cloister.eif import Image, SectionType, SignatureError, SignatureSection
from cloister.mapped import pieces
from cloister.pcrs import ZERO_PCR, extend, measure_bytes

HASH_ALGORITHM: Final = "Sha384 { ... }"
"""nitro-cli's spelling up to 1.4 and in all its documentation; 1.5.0 prints another debug form."""
_MEASURED: Final = (SectionType.KERNEL, SectionType.CMDLINE, SectionType.RAMDISK)
_BOOT_SECTIONS: Final = 3
"""Kernel, command line and the first ramdisk; reader and writer make sure of their order."""
_BEHIND: Final = 12
"""Pieces, of about a megabyte, that a hash may lag behind before it is waited for."""


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


class Measuring:
    """Measures payloads that pass by, a tap on whatever reads or writes them; a context manager.

    PCR0 and PCR1 share their beginning, so the boot part is hashed once. From then on every piece is hashed
    for PCR0 and for PCR2, each in a thread of its own, since hashing releases the interpreter's lock; whoever
    brings the pieces waits when a thread is too far behind.
    """

    def __init__(self, passed: Callable[[int], None] | None = None) -> None:
        self._everything, self._application = _Lane(), _Lane()
        self._boot: Future[hashlib._Hash] | None = None
        self._lanes: tuple[_Lane, ...] = ()
        """Those the current section is measured by."""
        self._measured = self._size = 0
        self._passed = passed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lane in (self._everything, self._application):
            lane.close()

    def begin(self, kind: SectionType) -> None:
        """Note that a section begins."""
        if kind not in _MEASURED:
            self._lanes = ()
            return
        self._measured += 1
        if self._measured == _BOOT_SECTIONS + 1:
            self._boot = self._everything.copied()
        boots = self._measured <= _BOOT_SECTIONS
        self._lanes = (self._everything,) if boots else (self._everything, self._application)

    def update(self, piece: bytes | memoryview) -> None:
        """Measure the next bytes of the section, soon."""
        for lane in self._lanes:
            lane.update(piece)
        if self._passed is not None:
            self._size += len(piece)
            self._passed(self._size)

    def finish(self, signature: SignatureSection | None) -> Measurements:
        """Return the registers; raises SignatureError when the signing certificate cannot be read."""
        boot = self._boot or self._everything.copied()
        everything, application = self._everything.copied(), self._application.copied()
        pcr8 = None if signature is None else measure_bytes(signature.certificate_der)
        return Measurements(
            _register(everything.result()), _register(boot.result()), _register(application.result()), pcr8
        )


def measure(image: Image) -> Measurements:
    """Measure an image; raises SignatureError when its signing certificate cannot be read."""
    with Measuring() as measuring:
        for section in image.sections:
            measuring.begin(section.kind)
            for piece in pieces(section.payload):
                measuring.update(piece)
        return measuring.finish(image.signature)


def check_signature(image: Image, measurements: Measurements, now: datetime) -> None:
    """Verify the signature over PCR0 and the certificate's dates; raises SignatureError, also for none."""
    if image.signature is None:
        raise SignatureError("The EIF is not signed.")
    image.signature.verify(measurements.pcr0, now)


class _Lane:
    """A digest with a thread that feeds it, in the order of the pieces and at most a few behind."""

    def __init__(self) -> None:
        self._digest = hashlib.sha384()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting = deque[Future[None]]()

    def update(self, piece: bytes | memoryview) -> None:
        if len(self._waiting) == _BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._digest.update, piece))

    def copied(self) -> "Future[hashlib._Hash]":
        """Return the digest as it will be after the pieces so far."""
        return self._thread.submit(self._digest.copy)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


def _register(digest: "hashlib._Hash") -> bytes:
    return extend(ZERO_PCR, digest.digest())
