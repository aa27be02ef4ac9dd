"""A key service that the tests of this room share."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from mypy_boto3_kms import KMSClient

from cloister.trust import initialise
from simulators.key_service import INSTANCE, RECIPIENT, Notary, Server, running


@pytest.fixture(scope="session")
def notary(tmp_path_factory: pytest.TempPathFactory) -> Notary:
    """Make this host's notary."""
    directory = tmp_path_factory.mktemp("pki")
    trust = initialise(directory, region="us-east-1", instance_id=INSTANCE, now=datetime.now(UTC))
    return Notary(trust, RECIPIENT)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Notary:
    """Another host's notary, whose root the service does not know."""
    directory = tmp_path_factory.mktemp("strange-pki")
    trust = initialise(directory, region="us-east-1", instance_id=INSTANCE, now=datetime.now(UTC))
    return Notary(trust, RECIPIENT)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, notary: Notary) -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    with running(tmp_path_factory.mktemp("kms"), notary.trust.root_pem_path) as started:
        yield started


@pytest.fixture(scope="session")
def kms(server: Server) -> KMSClient:
    """Return the administrator's client."""
    return server.client()
