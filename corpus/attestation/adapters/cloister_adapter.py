"""Cloister's own verifier, for ``run.py --lines --steps -- python adapters/cloister_adapter.py``."""

import base64
import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from cloister.attestation import Expected, Revocation, VerificationError, verify


def expected(expect: Mapping[str, Any]) -> Expected:
    """Turn a case's expectations into the verifier's; no word about PCRs means that any will do."""
    banks = {
        name: {int(index): bytes.fromhex(value) for index, value in expect[name].items()}
        for name in ("pcrs", "nitrotpm_pcrs")
        if name in expect
    }
    fields = {
        name: bytes.fromhex(expect[name]) for name in ("nonce", "user_data", "public_key") if name in expect
    }
    return Expected(
        pcrs=banks.get("pcrs"),
        nitrotpm_pcrs=banks.get("nitrotpm_pcrs"),
        any_pcrs=not banks,
        nonce=fields.get("nonce"),
        user_data=fields.get("user_data"),
        public_key=fields.get("public_key"),
        max_age=timedelta(seconds=expect["max_age"]) if "max_age" in expect else None,
        allow_debug=expect.get("allow_debug", False),
        revoked={
            Revocation(bytes.fromhex(entry["issuer"]), int(entry["serial"], 16))
            for entry in expect.get("revoked", ())
        },
        reconstruct=expect.get("reconstruct", False),
    )


def judge(case: Mapping[str, Any]) -> dict[str, Any]:
    """Verify one case and answer as run.py wants it; anything but a VerificationError is a crash."""
    try:
        verify(
            base64.b64decode(case["document_base64"]),
            roots=x509.load_pem_x509_certificates(case["root_pem"].encode()),
            now=datetime.fromisoformat(case["time"]),
            expect=expected(case["expect"]),
        )
    except VerificationError as error:
        return {"accepts": False, "step": error.name, "reason": str(error)}
    except Exception as error:  # noqa: BLE001 -- the finding that a runner exists for
        return {"crash": f"{type(error).__name__}: {error}"}
    return {"accepts": True}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(judge(json.loads(line))), flush=True)
