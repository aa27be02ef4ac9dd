"""JSON on standard output as serde_json prints it: two spaces, text as it is, one object and a line end."""

import json
import sys
from typing import Any


def print_json(value: Any) -> None:
    """Print and flush; what standard output's encoding lacks is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    print(text, flush=True)
