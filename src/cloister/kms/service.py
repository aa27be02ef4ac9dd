"""The service: authenticate a request, run its operation, log the decision, answer.

One request in, one response out, no waiting: the server in front of it owns sockets and time limits.
"""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloister.aws import (
    CONTENT_TYPE,
    Authorization,
    Fault,
    Request,
    decode_body,
    decode_request,
    derive_key,
    encode_fault,
    encode_result,
    read_authorization,
    read_target,
    verify,
)
from cloister.errors import CloisterError
from cloister.kms.call import Call, Origin
from cloister.kms.decisions import DecisionLog
from cloister.kms.index import OPERATIONS, REQUESTS
from cloister.kms.operation import Operation
from cloister.kms.recipient import Trust
from cloister.kms.storage.store import Credential, Store

SERVICE = "kms"
TARGET_PREFIX = "TrentService"
MAX_SIGNING_KEYS = 1000
MAX_LOGGED = 256
_LOG = logging.getLogger(__name__)
_INTERNAL = Fault("KMSInternalException", "The request was rejected because of an internal error.")


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back over the wire."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Service:
    """The key service of one account in one region."""

    def __init__(
        self, store: Store, *, trust: Trust, log: DecisionLog, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.store = store
        self._trust = trust
        self._decision_log = log
        self._clock = clock or (lambda: datetime.now(UTC))
        self._signing_keys: dict[tuple[str, str], bytes] = {}

    def respond(self, request: Request, *, source_ip: str | None, secure: bool) -> Response:
        """Answer one request; every outcome is in the decision log before this returns."""
        request_id = str(uuid.uuid4())
        now = self._clock()
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # the store keeps milliseconds
        target = (request.header("x-amz-target") or "")[:MAX_LOGGED]
        record: dict[str, Any] = {
            "time": now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requestId": request_id,
            "operation": target.rpartition(".")[2],
            "caller": None,
            "accessKeyId": None,
            "sourceIp": source_ip,
            "key": None,
        }
        try:
            origin = Origin(source_ip, (request.header("user-agent") or "")[:MAX_LOGGED], secure)
            status, body = 200, encode_result(self._carry_out(request, record, origin, now))
            record.update(outcome="allowed", error=None)
        except Fault as fault:
            status, body = fault.status, encode_fault(fault)
            _record_fault(record, fault)
        except Exception as error:  # noqa: BLE001 - whatever went wrong inside, the caller gets AWS's answer
            known = isinstance(error, CloisterError)  # such as a root of trust that cannot be read
            _LOG.error("request %s failed: %s", request_id, error, exc_info=not known)
            status, body = _INTERNAL.status, encode_fault(_INTERNAL)
            _record_fault(record, _INTERNAL)
        try:
            self._decision_log.write(record)
        except CloisterError as error:
            _LOG.critical("request %s gets no answer, as it cannot be logged: %s", request_id, error)
            status, body = _INTERNAL.status, encode_fault(_INTERNAL)
        return Response(status, (("content-type", CONTENT_TYPE), ("x-amzn-requestid", request_id)), body)

    def _carry_out(
        self, request: Request, record: dict[str, Any], origin: Origin, now: datetime
    ) -> dict[str, Any]:
        if request.method != "POST" or request.path != "/":
            raise Fault("UnknownOperationException")
        credential = self._authenticate(request, record, now)
        record["caller"] = credential.caller.arn
        operation = self._operation(request)
        members = decode_request(REQUESTS[operation.name], decode_body(request.body))
        call = Call(self.store, self._trust, now, credential, origin)
        try:
            return operation.run(call, members)
        finally:
            record["key"] = call.key.arn if call.key is not None else None
            record["attestation"] = call.recipient.summary() if call.recipient is not None else None
            record["decisions"] = call.decisions

    @staticmethod
    def _operation(request: Request) -> Operation:
        operation = OPERATIONS.get(read_target(request.header("x-amz-target"), TARGET_PREFIX))
        if operation is None:
            raise Fault("UnknownOperationException")
        return operation

    def _authenticate(self, request: Request, record: dict[str, Any], now: datetime) -> Credential:
        authorization = read_authorization(request)
        record["accessKeyId"] = authorization.access_key[:MAX_LOGGED]
        credential = self.store.credential(authorization.access_key)
        unknown = Fault(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        )
        if credential is None or request.header("x-amz-security-token") is not None:
            raise unknown
        verify(
            request,
            authorization,
            self._signing_key(credential, authorization),
            region=self.store.region,
            service=SERVICE,
            now=now,
        )
        return credential

    def _signing_key(self, credential: Credential, authorization: Authorization) -> bytes:
        """Derive a caller's signing key of the day, or recall it; for this service's own scope only."""
        entry = (credential.access_key_id, authorization.date)
        if entry not in self._signing_keys:
            if len(self._signing_keys) >= MAX_SIGNING_KEYS:
                self._signing_keys.clear()
            self._signing_keys[entry] = derive_key(
                credential.secret, authorization.date, self.store.region, SERVICE
            )
        return self._signing_keys[entry]


def _record_fault(record: dict[str, Any], fault: Fault) -> None:
    denied = fault.code == "AccessDeniedException"
    record["outcome"] = "denied" if denied else "refused" if record["caller"] is None else "failed"
    record["error"] = {"code": fault.code, "message": fault.message}
