"""The enclave's security module: answers nothing before the image's registers are known."""

import os
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from cloister.control import EnclaveFailure
from cloister.measure import Measurements
from cloister.nsm import Credentials, SecurityModule
from cloister.pcrs import PCR_SIZE, PcrBank, extend
from cloister.places import Places
from cloister.supervisor.identity import Identity
from cloister.supervisor.request import RunRequest
from cloister.trust import Trust, TrustError, open_trust

MEASURE_SECONDS: Final = 300.0


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
    """Makes the module when the first request comes, waiting for the measurement if it is not done."""

    def __init__(self, module_id: str, trust: Trust, measuring: Future[Measurements], *, debug: bool) -> None:
        self._module_id = module_id
        self._trust = trust
        self._measuring = measuring
        self._debug = debug
        self._module: SecurityModule | None = None

    def handle(self, request: bytes) -> bytes:
        """Answer the guest."""
        return self._made().handle(request, now=datetime.now(UTC), random=os.urandom)

    def _made(self) -> SecurityModule:
        if self._module is None:
            measured = self._measuring.result(MEASURE_SECONDS).registers()

            def issue(now: datetime) -> Credentials:
                return self._trust.enclave_credentials(self._module_id, now)

            bank = make_bank(measured, self._trust, debug=self._debug)
            self._module = SecurityModule(
                module_id=self._module_id,
                bank=bank,
                credentials=issue,
                document_map=self._trust.document_map,
            )
        return self._module


def prepare_security(
    places: Places, slot: int, measuring: Future[Measurements], request: RunRequest
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
    return identity, Security(identity.module_id, trust, measuring, debug=request.debug)
