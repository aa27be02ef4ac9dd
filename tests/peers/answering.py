"""``python -m peers.answering NAME``: a verifier, as ``corpus/attestation/run.py --lines`` asks it."""

import base64
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from cloister.errors import CloisterError
from cloister.places import current_places
from peers.building import find_peers
from peers.verifiers import Verifier, pinned_verifiers


def answer(verifier: Verifier, case: dict[str, Any]) -> dict[str, Any]:
    """Return the runner's answer; what is expected of a document's content none of them can be told."""
    document = base64.b64decode(case["document_base64"])
    try:
        verdict = verifier.judge(document, root=Path(case["root"]), at=datetime.fromisoformat(case["time"]))
    except subprocess.TimeoutExpired as error:
        return {"crash": f"no answer within {error.timeout:.0f} s"}
    if verdict.crashed:
        return {"crash": verdict.reason}
    return {"accepts": verdict.accepted, "reason": verdict.reason}


def main() -> int:
    """Answer until there are no more cases."""
    try:
        verifiers = {verifier.name: verifier for verifier in pinned_verifiers(find_peers(current_places()))}
    except CloisterError as error:
        sys.exit(f"peers: {error}")
    if len(sys.argv) != 2 or sys.argv[1] not in verifiers:
        sys.exit(f"usage: python -m peers.answering {'|'.join(verifiers)}")
    for line in sys.stdin:
        print(json.dumps(answer(verifiers[sys.argv[1]], json.loads(line))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
