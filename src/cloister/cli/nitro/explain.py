"""``nitro-cli explain``: what an error code means. Spec: nitro-tools 1.3.

As the original it does not know E57 to E59; ``cloister explain`` does.
"""

import sys
from typing import Final

from cloister.cli.nitro.codes import TEXTS
from cloister.cli.nitro.grammar import Arguments, Option

OPTIONS = (
    Option(
        "error-code",
        "Error code, as returned by the misbehaving Nitro CLI command",
        "error-code",
        required=True,
    ),
)
UNKNOWN: Final = frozenset({"E57", "E58", "E59"})
EXAMPLES: Final = {
    "E01": "run-enclave --cpu-count 2 --eif-path hello.eif` lacks the mandatory `--memory`.",
    "E02": "run-enclave --cpu-count 2 --cpu-ids 1 3 …` says twice which CPUs; give one of the two.",
    "E03": "run-enclave --cpu-count 1z …`: `1z` is not an integer.",
    "E20": "run-enclave --cpu-ids 1 1 …` names CPU 1 twice.",
    "E21": "run-enclave --cpu-ids 1 2 …` with the pool [1, 9]: CPU 2 is not in it.",
    "E22": "run-enclave --cpu-count 4 …` with the pool [1, 9]: four are asked for, the pool has two.",
    "E26": "run-enclave --memory 5 …` with an EIF of 11 MB, which needs 44 MB.",
    "E27": "run-enclave --memory 100 …` where 80 MB are available; raise what is available, or ask for less.",
}


def run(args: Arguments) -> int:
    """Print the explanation to stderr, as AWS does; an unknown code is no failure."""
    code = args.error_code
    if code not in TEXTS or code in UNKNOWN:
        print(f"No such error code {code}", file=sys.stderr)
        return 0
    print(TEXTS[code], file=sys.stderr)
    if code in EXAMPLES:
        print(f"\tExample: `nitro-cli {EXAMPLES[code]}", file=sys.stderr)
    return 0
