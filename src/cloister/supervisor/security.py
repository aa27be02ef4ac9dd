"""The enclave's security module: answers nothing before the image's registers are known."""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cloister.control import EnclaveFailure
from cloister.errors import CloisterError
from cloister.measure import Measurements
from cloister.nsm import RENEW_BEFORE, Credentials, NotYetError, SecurityModule
from cloister.pcrs import PCR_SIZE, PcrBank, extend
from cloister.places import Places
from cloister.supervisor.identity import Identity
from cloister.supervisor.request import RunRequest
from cloister.trust import Trust, TrustError, open_trust

MEASURE_SECONDS: Final = 300.0
COMPLAIN_EVERY: Final = timedelta(minutes=1)
"""How often another reason may be told why there is no certificate: some name the time, and a guest may ask
without end."""


def make_bank(measured: Mapping[int, bytes], trust: Trust, *, debug: bool) -> PcrBank:
    """Return the registers an enclave starts with.

    PCR3 is the role, PCR4 the host's instance, both of the bare string; in debug mode the image's own
    registers are zero and those two stay (nitro-tools 2.2, 5.4).
    """
    zero = bytes(PCR_SIZE)
    registers = {} if debug else dict(measured)
    registers[4] = extend(zero, trust.instance_id.encode())
    if trust.role_arn is not None:
        registers[3] = extend(zero, trust.role_arn.encode())
    return PcrBank(registers)


class Security:
    """Makes the module when the first request comes, waiting for the measurement if it is not done.

    Its credentials are made by a thread: that takes locks, files and perhaps a token's time. Nobody waits for
    it at the enclave's end; what it leaves half done is what a lost power leaves (decision 130). When they
    cannot be made, ``complain`` is told why: the guest reads no more than InternalError.
    """

    def __init__(
        self,
        module_id: str,
        trust: Trust,
        measuring: Future[Measurements],
        *,
        debug: bool,
        complain: Callable[[str], None],
    ) -> None:
        self._module_id = module_id
        self._trust = trust
        self._measuring = measuring
        self._debug = debug
        self._complain = complain
        self._complained: tuple[datetime, str] | None = None
        self._module: SecurityModule | None = None
        self._asked = datetime.min.replace(tzinfo=UTC)
        self._making: Future[Credentials | CloisterError] | None = None

    @property
    def pending(self) -> "Future[Credentials | CloisterError] | None":
        """What an unanswered request waits for."""
        return None if self._making is None or self._making.done() else self._making

    def handle(self, request: bytes, now: datetime | None = None) -> bytes:
        """Answer the guest; raises NotYetError when it has to be asked again after what is ``pending``."""
        return self._made().handle(request, now=now or datetime.now(UTC), random=os.urandom)

    def _credentials(self, now: datetime) -> Credentials:
        """Return what a thread has made, if it is still good, or have it make new ones."""
        if self._making is not None and self._making.done():
            made, self._making = self._making.result(), None
            if isinstance(made, CloisterError):
                self._tell(str(made), now)
                raise made
            self._complained = None
            if self._asked <= now <= made.not_after - RENEW_BEFORE:
                return made
        if self._making is None:
            self._asked = now
            self._making = Future()
            threading.Thread(target=self._make, args=(now, self._making), name="issuing", daemon=True).start()
        raise NotYetError("the enclave's next certificate is being issued")

    def _make(self, now: datetime, made: "Future[Credentials | CloisterError]") -> None:
        try:
            made.set_result(self._trust.enclave_credentials(self._module_id, now))
        except CloisterError as error:
            made.set_result(error)
        except Exception as error:  # noqa: BLE001 -- ours or a token's: the guest waits, and may ask again
            made.set_result(TrustError(f"{type(error).__name__}: {error}"))

    def _tell(self, complaint: str, now: datetime) -> None:
        """Complain, unless of the same since there was a certificate, or of anything a moment ago."""
        if self._complained is not None:
            when, what = self._complained
            if what == complaint or when <= now < when + COMPLAIN_EVERY:
                return
        self._complained = now, complaint
        self._complain(f"no certificate for the enclave's documents: {complaint}")

    def _made(self) -> SecurityModule:
        if self._module is None:
            measured = self._measuring.result(MEASURE_SECONDS).registers()
            bank = make_bank(measured, self._trust, debug=self._debug)
            self._module = SecurityModule(
                module_id=self._module_id,
                bank=bank,
                credentials=self._credentials,
                document_map=self._trust.document_map,
            )
        return self._module


def prepare_security(
    places: Places,
    slot: int,
    measuring: Future[Measurements],
    request: RunRequest,
    *,
    complain: Callable[[str], None],
) -> tuple[Identity, Security]:
    """Name a new enclave and make its security module; raises EnclaveFailure E19.

    What the request says of role and encoding stands in place of what the host's file says.
    """
    try:
        trust = open_trust(places.pki)
    except TrustError as error:
        raise EnclaveFailure(
            "E19", f"File operation failure. {error}.\nFile: '{places.pki}', failing operation: 'Open'."
        ) from None
    trust = replace(
        trust,
        role_arn=request.role_arn or trust.role_arn,
        document_map=request.document_map or trust.document_map,
    )
    identity = Identity(trust.instance_id, slot)
    module_id, debug = identity.module_id, request.debug
    return identity, Security(module_id, trust, measuring, debug=debug, complain=complain)
