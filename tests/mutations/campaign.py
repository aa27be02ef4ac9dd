"""Campaigns: a range of mutations judged on every processor, and the table of what became of them."""

import math
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cloister.attestation import STEPS
from mutations.corpus import Corpus
from mutations.mutate import mutate
from mutations.oracle import Verdict, judge_cold, judge_warm, past_cbor
from mutations.recipients import judge_recipient, recipient_of
from mutations.requests import judge_request, mutate_request

CHUNK = 500
_BUCKET = 0.0001  # seconds: how finely costs are kept


@dataclass(frozen=True, slots=True)
class Target:
    """What is mutated and who judges: a mutation has a kind, a description and a document."""

    mutate: Callable[[int, int, Corpus], Any]
    judge: Callable[[Any, Corpus], Verdict]


TARGETS = {
    "documents": Target(mutate, judge_cold),
    "cached": Target(mutate, judge_warm),
    "recipients": Target(recipient_of, judge_recipient),
    "requests": Target(mutate_request, judge_request),
}


@dataclass(slots=True)
class Tally:
    """What became of some mutations."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    """By kind, then by outcome."""
    costs: dict[str, Counter[int]] = field(default_factory=dict)
    """By kind, then by tenths of a millisecond of CPU."""
    worst: tuple[float, int] = (0.0, -1)
    """Seconds of CPU, and the index that cost them."""
    faults: list[tuple[int, str]] = field(default_factory=list)

    def add(self, index: int, kind: str, verdict: Verdict) -> None:
        """Count one."""
        self.outcomes.setdefault(kind, Counter())[verdict.outcome] += 1
        self.costs.setdefault(kind, Counter())[int(verdict.cpu / _BUCKET)] += 1
        self.worst = max(self.worst, (verdict.cpu, index))
        if verdict.fault:
            self.faults.append((index, f"{kind}: {verdict.fault}"))

    def merge(self, other: "Tally") -> None:
        """Count another's."""
        for mine, theirs in ((self.outcomes, other.outcomes), (self.costs, other.costs)):
            for kind, counts in theirs.items():
                mine.setdefault(kind, Counter()).update(counts)  # type: ignore[arg-type]  # each with its own
        self.worst = max(self.worst, other.worst)
        self.faults += other.faults

    @property
    def count(self) -> int:
        """How many there were."""
        return self.total.total()

    @property
    def total(self) -> Counter[str]:
        """How many there were of each outcome."""
        return sum(self.outcomes.values(), Counter())


def percentile(costs: Counter[int], share: float) -> float:
    """Return the cost in milliseconds that this share of all stayed within."""
    wanted = math.ceil(share * costs.total())
    for bucket in sorted(costs):
        wanted -= costs[bucket]
        if wanted <= 0:
            return (bucket + 1) * _BUCKET * 1000
    return 0.0


def judge_range(target: Target, seed: int, corpus: Corpus, indexes: range) -> Tally:
    """Judge a range of a campaign in this process."""
    tally = Tally()
    for index in indexes:
        mutation = target.mutate(seed, index, corpus)
        tally.add(index, mutation.kind, target.judge(mutation, corpus))
    return tally


def run(target: Target, seed: int, corpus: Corpus, indexes: range, jobs: int) -> Iterator[Tally]:
    """Judge a whole range on so many processes, and yield each part's tally as it comes."""
    parts = [indexes[at : at + CHUNK] for at in range(0, len(indexes), CHUNK)]
    if jobs == 1:
        yield from (judge_range(target, seed, corpus, part) for part in parts)
        return
    global _judge_part  # noqa: PLW0603 -- what a forked process has need not be pickled
    _judge_part = partial(judge_range, target, seed, corpus)
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(_judged, parts)


_judge_part: Callable[[range], Tally]


def _judged(part: range) -> Tally:
    return _judge_part(part)


def report(tally: Tally) -> Iterator[str]:
    """Yield the campaign's table, line by line: outcomes in the order of the steps, then cost by kind."""
    count, total = tally.count, tally.total
    yield f"{'outcome':50} {'number':>9}  share"
    order = {name: place for place, name in enumerate(STEPS)}
    for outcome in sorted(total, key=lambda name: (order.get(name, len(order)), name)):
        yield f"{outcome:50} {total[outcome]:9,}  {total[outcome] / count:6.2%}"
    yield ""
    yield f"{'kind':26} {'number':>9} {'accepted':>9}   p99 ms   max ms  (CPU of one answer)"
    for kind in sorted(tally.outcomes):
        outcomes, costs = tally.outcomes[kind], tally.costs[kind]
        accepted = sum(number for name, number in outcomes.items() if name.startswith("accepted"))
        within, most = percentile(costs, 0.99), (max(costs) + 1) * _BUCKET * 1000
        yield f"{kind:26} {outcomes.total():9,} {accepted:9,} {within:8.1f} {most:8.1f}"
    everything = sum(tally.costs.values(), Counter())
    cpu, index = tally.worst
    yield f"all: p99 {percentile(everything, 0.99):.1f} ms, most {cpu * 1000:.1f} ms (index {index})"


def share_past_cbor(tally: Tally) -> float:
    """Return the share of documents that were decoded completely, whatever became of them then."""
    return sum(number for outcome, number in tally.total.items() if past_cbor(outcome)) / tally.count
