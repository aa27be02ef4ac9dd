"""A key service that runs while its host's root is replaced."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from cloister.trust import InFile, initialise, make_root, rotate_root
from simulators.key_service import INSTANCE, RECIPIENT, Notary, running

REGION = "us-east-1"


def test_both_roots_are_accepted_without_a_restart(tmp_path: Path) -> None:
    """The new root's documents are accepted at once, the old one's too until it is distrusted."""
    pki = tmp_path / "state/cloister/pki"

    def rotate(**options: timedelta) -> None:
        now = datetime.now(UTC)
        rotate_root(pki, lambda: make_root(InFile(), region=REGION, now=now), now, **options)

    trust = initialise(pki, region=REGION, instance_id=INSTANCE, now=datetime.now(UTC))
    notary = Notary(trust, RECIPIENT)
    with running(tmp_path, None) as server:
        kms = server.client()

        def ask(document: bytes) -> bytes:
            recipient = {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}
            return kms.generate_random(NumberOfBytes=8, Recipient=recipient)["CiphertextForRecipient"]  # type: ignore[arg-type]

        def refused(act: Callable[[], object]) -> str:
            with pytest.raises(ClientError) as error:
                act()
            return error.value.response["Error"]["Code"]

        old = notary.document()
        assert ask(old)
        rotate()
        new = notary.document()
        assert ask(new)
        assert ask(old)
        rotate(overlap=timedelta())
        assert ask(notary.document())
        assert refused(lambda: ask(new)) == "ValidationException"
        assert refused(lambda: ask(old)) == "ValidationException"  # older roots go with it
        (pki / "root.pem").write_bytes(b"garbage")
        assert refused(lambda: ask(old)) == "KMSInternalException"
