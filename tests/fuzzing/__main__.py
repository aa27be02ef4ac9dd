"""``python -m fuzzing TARGET [--seconds N] [--corpus DIR]``: coverage-guided, with libFuzzer under atheris.

A crash, a hang of ten seconds or more than half a gigabyte of memory ends it, with the input in a file.
"""

import argparse
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Final

import atheris

TARGETS: Final = ("eif", "layers")
SECONDS_FOR_ONE: Final = 10
MEGABYTES: Final = 512
MAX_INPUT: Final = 1 << 16


def main() -> None:
    """Feed one target until its time is up."""
    parser = argparse.ArgumentParser(prog="fuzzing", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="where inputs are kept; default: a temporary directory")
    args = parser.parse_args()
    with atheris.instrument_imports(include=["cloister"]):  # whole packages only
        target = import_module(f"fuzzing.{args.target}")
    corpus = args.corpus or Path(tempfile.mkdtemp(prefix="fuzzing-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number:03}").write_bytes(seed)
    words = [f"-max_total_time={args.seconds}", f"-timeout={SECONDS_FOR_ONE}", f"-rss_limit_mb={MEGABYTES}"]
    words += [f"-max_len={MAX_INPUT}", "-print_final_stats=1", f"-artifact_prefix={corpus}/"]
    atheris.Setup([sys.argv[0], *words, str(corpus)], target.try_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
