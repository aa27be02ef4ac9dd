"""One enclave's security module: a state machine from request bytes to response bytes.

Follows ``nitro-tools.md`` section 5.3. Clock and randomness are arguments. It keeps the enclave's registers
and its current signing credentials, nothing else; calls must not overlap. A guest can say anything: whatever
the bytes are, the answer is a message, never an exception. Making credentials may take longer than answering:
who makes them may say that they are not there yet (NotYetError).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from cloister.attestation import sign
from cloister.errors import CloisterError
from cloister.nsm.messages import (
    DOCUMENT_MAPS,
    MAX_RESPONSE,
    Attest,
    DescribeNsm,
    DescribePcr,
    ErrorCode,
    ExtendPcr,
    GetRandom,
    LockPcr,
    LockPcrs,
    MessageError,
    ModuleDescription,
    NotYetError,
    PcrExtended,
    PcrLocked,
    PcrsLocked,
    PcrState,
    RandomBytes,
    Refusal,
    Request,
    Response,
    SignedDocument,
    decode_request,
    encode_response,
)
from cloister.pcrs import PCR_COUNT, PcrBank, PcrIndexError, PcrLockedError

VERSION = (1, 0, 0)  # what AWS's module says (nsm-and-eif-vectors.json)
MAX_FIELD = 1024  # bytes each of user_data, nonce, public_key (nitro-tools.md, section 5.3)
RANDOM_SIZE = 256  # bytes, section 5.1; the kernel's driver wants more than 23
RENEW_BEFORE = timedelta(minutes=30)  # genuine documents are at most 2 h 22 min younger than their leaf
_INDEFINITE = dict(zip(DOCUMENT_MAPS, (True, False), strict=True))


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an enclave's documents are signed with, until ``not_after``."""

    key: ec.EllipticCurvePrivateKey
    certificate: bytes
    """DER."""
    cabundle: tuple[bytes, ...]
    """DER, root first."""
    not_after: datetime


class SecurityModule:
    """The security module of one enclave.

    ``credentials(now)`` makes new ones; raises NotYetError while it is at it, another CloisterError or an
    OSError when it cannot. ``document_map`` is one of DOCUMENT_MAPS.
    """

    def __init__(
        self,
        *,
        module_id: str,
        bank: PcrBank,
        credentials: Callable[[datetime], Credentials],
        document_map: str = "indefinite",
    ) -> None:
        self.module_id = module_id
        self._indefinite = _INDEFINITE[document_map]
        self._bank = bank
        self._issue = credentials
        self._current: tuple[datetime, Credentials] | None = None  # when they were issued, and they

    def handle(self, request: bytes, *, now: datetime, random: Callable[[int], bytes]) -> bytes:
        """Answer one request; what cannot be met is answered with an Error message, never raised.

        Raises NotYetError alone, when it has to be asked again once there are credentials.
        """
        response = encode_response(self._answer(request, now, random))
        if len(response) > MAX_RESPONSE:
            return encode_response(Refusal(ErrorCode.BUFFER_TOO_SMALL))
        return response

    def _answer(self, request: bytes, now: datetime, random: Callable[[int], bytes]) -> Response:
        try:
            return self._perform(decode_request(request), now, random)
        except NotYetError:
            raise
        except MessageError as error:
            return Refusal(error.code)
        except PcrIndexError:
            return Refusal(ErrorCode.INVALID_INDEX)
        except PcrLockedError:
            return Refusal(ErrorCode.READ_ONLY_INDEX)
        except (CloisterError, OSError):  # the host failed to give credentials or randomness
            return Refusal(ErrorCode.INTERNAL_ERROR)

    def _perform(self, request: Request, now: datetime, random: Callable[[int], bytes]) -> Response:
        match request:
            case DescribePcr(index):
                return PcrState(*self._bank.describe(index))
            case ExtendPcr(index, data):
                return PcrExtended(self._bank.extend(index, data))
            case LockPcr(index):
                self._bank.lock(index)
                return PcrLocked()
            case LockPcrs(count):
                self._bank.lock_range(count)
                return PcrsLocked()
            case DescribeNsm():
                return ModuleDescription(*VERSION, self.module_id, PCR_COUNT, tuple(self._bank.locked()))
            case GetRandom():
                return RandomBytes(random(RANDOM_SIZE))
            case Attest():
                return self._attest(request, now)

    def _attest(self, request: Attest, now: datetime) -> Response:
        fields = (request.user_data, request.nonce, request.public_key)
        if any(field is not None and len(field) > MAX_FIELD for field in fields):
            return Refusal(ErrorCode.INPUT_TOO_LARGE)
        document = sign(
            self._credentials_at(now),
            module_id=self.module_id,
            now=now,
            pcrs=self._bank.locked(),
            user_data=request.user_data,
            nonce=request.nonce,
            public_key=request.public_key,
            indefinite=self._indefinite,
        )
        return SignedDocument(document)

    def _credentials_at(self, now: datetime) -> Credentials:
        """Return credentials that outlive the document, new ones when time is short or went backwards."""
        issued, current = self._current or (now, None)
        if current is not None and issued <= now <= current.not_after - RENEW_BEFORE:
            return current
        try:
            renewed = self._issue(now)
        except (CloisterError, OSError):
            if current is None or not issued <= now < current.not_after:
                raise
            return current
        self._current = (now, renewed)
        return renewed
