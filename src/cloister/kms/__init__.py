"""The key service: KMS's API with attestation enforced, policies judged and every decision logged."""

from cloister.kms.decisions import DecisionLog, explain, read_decisions
from cloister.kms.recipient import Trust
from cloister.kms.server import BindError, listen_tcp, listen_unix, serve
from cloister.kms.service import Response, Service
from cloister.kms.storage.initialise import (
    Account,
    KmsMissingError,
    KmsStateError,
    initialise_kms,
    open_store,
)
from cloister.kms.storage.store import Store

__all__ = [
    "Account",
    "BindError",
    "DecisionLog",
    "KmsMissingError",
    "KmsStateError",
    "Response",
    "Service",
    "Store",
    "Trust",
    "explain",
    "initialise_kms",
    "listen_tcp",
    "listen_unix",
    "open_store",
    "read_decisions",
    "serve",
]
