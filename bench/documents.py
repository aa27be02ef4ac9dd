"""Attestation documents per second out of the security module, against raw P-384 signatures per second."""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.nsm import Attest, SecurityModule, encode_request
from cloister.pcrs import PcrBank
from cloister.trust import initialise
from rates import alternating_rates

MODULE_ID = "i-0123456789abcdef0-enc0123456789abcdef"


def bench_documents() -> None:
    """Print both rates and their ratio."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as directory:
        trust = initialise(Path(directory) / "pki", region="local-1", instance_id=MODULE_ID[:19], now=now)
        module = SecurityModule(
            module_id=MODULE_ID,
            bank=PcrBank({index: os.urandom(48) for index in range(5)}),
            credentials=lambda moment: trust.enclave_credentials(MODULE_ID, moment),
        )
        request = encode_request(Attest(user_data=bytes(64), nonce=bytes(32), public_key=bytes(294)))
        key = ec.generate_private_key(ec.SECP384R1())
        message = os.urandom(4500)
        ours, rival = alternating_rates(
            lambda: module.handle(request, now=now, random=os.urandom),
            lambda: key.sign(message, ec.ECDSA(hashes.SHA384())),
        )
    print(f"documents: {ours:.0f}/s; raw P-384 signatures: {rival:.0f}/s; ratio {ours / rival:.2f}")
