"""``python -m mutations TARGET --seed S --count N``: a campaign; with ``--index I``, one of its mutations."""

import argparse
import gc
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mutations.campaign import CHUNK, TARGETS, Tally, report, run, share_past_cbor
from mutations.corpus import VECTORS, Corpus, load_corpus

MIN_PAST_CBOR = 1 / 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every answer was allowed, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m mutations", description=__doc__)
    parser.add_argument("target", choices=list(TARGETS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--index", type=int, help="print this mutation alone")
    parser.add_argument("--own", action="store_true", help="leave the genuine documents out")
    parser.add_argument("--vectors", type=Path, default=VECTORS, help="where the genuine documents are")
    options = parser.parse_args(arguments)
    corpus = load_corpus(None if options.own else options.vectors)
    genuine = len(corpus.subjects) - len(corpus.ours)
    again = f"PYTHONPATH=tests {sys.executable} -m mutations {options.target} --seed {options.seed}"
    again += f" --vectors {options.vectors}" if genuine and options.vectors != VECTORS else ""
    again += " --index" if genuine else " --own --index"
    if options.index is not None:
        return show(options.target, options.seed, options.index, corpus)
    subjects = f"{len(corpus.ours)} documents of our own and {genuine} genuine ones"
    print(f"{options.target}: {options.count:,} mutations, seed {options.seed}; {subjects}")
    gc.collect()
    gc.freeze()  # an answer is not to pay for sweeping what the campaign itself holds
    begun, tally = time.monotonic(), Tally()
    indexes = range(options.start, options.start + options.count)
    for part in run(TARGETS[options.target], options.seed, corpus, indexes, options.jobs):
        tally.merge(part)
        if tally.count % 50_000 < CHUNK:
            print(f"  {tally.count:,} judged, {len(tally.faults)} faults", file=sys.stderr)
    return judged(options.target, tally, again, time.monotonic() - begun)


def show(target: str, seed: int, index: int, corpus: Corpus) -> int:
    """Print one mutation and its verdict."""
    mutation = TARGETS[target].mutate(seed, index, corpus)
    verdict = TARGETS[target].judge(mutation, corpus)
    print(f"kind:        {mutation.kind}\ndescription: {mutation.description}")
    if subject := getattr(mutation, "subject", None):
        time_of = "its own time" if mutation.own_time else subject.now.isoformat()
        print(f"subject:     {subject.name}, judged at {time_of}")
    for request in getattr(mutation, "before", ()):
        print(f"before:      {request.hex()}")
    print(f"bytes:       {mutation.document.hex()}")
    print(f"outcome:     {verdict.outcome} {verdict.reason}\ncpu:         {verdict.cpu * 1000:.2f} ms")
    print(f"verdict:     {verdict.fault or 'as it should be'}")
    return 1 if verdict.fault else 0


def judged(target: str, tally: Tally, again: str, seconds: float) -> int:
    """Print the table and every fault, and say whether all is well."""
    print("\n".join(report(tally)))
    print(f"{tally.count:,} in {seconds:.0f} s: {tally.count / seconds:,.0f} a second")
    for index, fault in sorted(tally.faults)[:50]:
        print(f"FAULT {fault}\n      {again} {index}")
    print(f"{len(tally.faults)} faults")
    if target in {"documents", "cached"}:
        share = share_past_cbor(tally)
        print(f"past CBOR decoding: {share:.1%}")
        return 1 if tally.faults or share < MIN_PAST_CBOR else 0
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
