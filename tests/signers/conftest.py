"""A key service of its own, and an image to sign."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.trust import initialise
from simulators.key_service import INSTANCE, Server, running
from simulators.small_image import write_small_image


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return an unsigned image, alone in its directory."""
    (tmp_path / "image").mkdir()
    return write_small_image(tmp_path / "image/x.eif")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run the key service; nobody attests anything here."""
    pki = tmp_path_factory.mktemp("signing-pki")
    trust = initialise(pki, region="us-east-1", instance_id=INSTANCE, now=datetime.now(UTC))
    with running(tmp_path_factory.mktemp("signing-kms"), trust.root_pem_path) as started:
        yield started


@pytest.fixture
def aws(service: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Let boto3's own environment lead to the service, as its administrator."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", service.endpoint)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(service.credentials_file("administrator")))
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return service
