"""The verifiers, and documents from the product's own path to show them."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloister.nsm import (
    Attest,
    ExtendPcr,
    LockPcr,
    Request,
    Response,
    SecurityModule,
    SignedDocument,
    decode_response,
    encode_request,
)
from cloister.pcrs import PcrBank, extend
from cloister.places import current_places
from cloister.trust import Trust, initialise
from peers.building import Peers, PeersMissingError, find_peers

MODULE_ID = "i-0123456789abcdef0-enc0198bc503b57519e"
NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
AT = NOW + timedelta(minutes=5)
"""When the verifiers are asked."""


@dataclass(frozen=True, slots=True)
class OwnRoot:
    """A root of trust on disk, made as ``cloister setup`` makes it."""

    trust: Trust

    @property
    def root(self) -> Path:
        """The root's certificate."""
        return self.trust.root_pem_path

    def attest(
        self, attest: Attest, *, document_map: str = "indefinite", before: Sequence[Request] = ()
    ) -> bytes:
        """Make a document with the product's own security module, after some other requests."""
        registers = {index: extend(bytes(48), bytes([index])) for index in (0, 1, 2, 3, 4, 8)}
        module = SecurityModule(
            module_id=MODULE_ID,
            bank=PcrBank(registers),
            credentials=lambda now: self.trust.enclave_credentials(MODULE_ID, now),
            document_map=document_map,
        )

        def ask(request: Request) -> Response:
            return decode_response(module.handle(encode_request(request), now=NOW, random=os.urandom))

        for request in before:
            ask(request)
        answer = ask(attest)
        assert isinstance(answer, SignedDocument), answer
        return answer.document


def make_root(directory: Path) -> OwnRoot:
    """Make a root of trust."""
    return OwnRoot(initialise(directory, region="us-east-1", instance_id="i-0123456789abcdef0", now=NOW))


@pytest.fixture(scope="session")
def peers() -> Peers:
    """Return the verifiers built on this host."""
    try:
        return find_peers(current_places())
    except PeersMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> OwnRoot:
    """Return a root of trust."""
    return make_root(tmp_path_factory.mktemp("ours") / "pki")


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> OwnRoot:
    """Return another host's root of trust, of the very same name."""
    return make_root(tmp_path_factory.mktemp("foreign") / "pki")


OPEN_REGISTERS: Sequence[Request] = [ExtendPcr(16, b"one"), ExtendPcr(31, b"two"), LockPcr(16), LockPcr(31)]
FULL = Attest(user_data=b"u" * 1024, nonce=b"n" * 1024, public_key=b"k" * 1024)
SHAPES: dict[str, tuple[Attest, Sequence[Request]]] = {
    "nothing asked": (Attest(), ()),
    "user_data": (Attest(user_data=b"some data"), ()),
    "nonce": (Attest(nonce=bytes(range(32))), ()),
    "public_key": (Attest(public_key=b"a key"), ()),
    "all three": (Attest(user_data=b"u", nonce=b"n" * 20, public_key=b"k" * 294), ()),
    "1024 bytes each": (FULL, ()),
    "PCR16 and PCR31 locked": (Attest(nonce=b"n" * 20), OPEN_REGISTERS),
    "everything at once": (FULL, OPEN_REGISTERS),
}


@pytest.fixture(scope="session")
def genuine(shared_vectors: Path) -> list[tuple[dict[str, Any], bytes]]:
    """Return AWS's own documents with their manifest entries."""
    entries = json.loads((shared_vectors / "attestation/manifest.json").read_text())
    return [(entry, (shared_vectors / entry["file"]).read_bytes()) for entry in entries]


def time_of(entry: dict[str, Any]) -> datetime:
    """Return a genuine document's own time."""
    return datetime.fromtimestamp(entry["timestamp_ms"] / 1000, UTC)
