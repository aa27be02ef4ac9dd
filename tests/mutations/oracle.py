"""What the verifier said of a mutation, and whether it may say so."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.serialization import Encoding

from cloister.attestation import STEPS, CertificateCache, Document, VerificationError, verify
from mutations.content_kinds import equivalents
from mutations.corpus import ANY, Corpus
from mutations.mutate import Mutation
from mutations.second_reading import breaches

MAX_CPU = 0.050
"""Seconds of CPU that no document may cost."""
EQUIVALENT, PERMITTED = "accepted: equivalent form", "accepted: signed again, as the profile permits"
Verify = Callable[[Mutation], Document]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome (a step's name, or a kind of acceptance), its cost in seconds, and what is wrong."""

    outcome: str
    cpu: float
    fault: str = ""
    reason: str = ""


def cold(mutation: Mutation) -> Document:
    """Verify as somebody does who sees his first document."""
    now = None if mutation.own_time else mutation.subject.now
    return verify(mutation.document, roots=mutation.subject.roots, now=now, expect=ANY)


def judge_cold(mutation: Mutation, corpus: Corpus) -> Verdict:
    """Judge what somebody says who sees his first document."""
    return judge(mutation, corpus, cold)


def judge_warm(mutation: Mutation, corpus: Corpus) -> Verdict:
    """Judge what somebody says who remembers every good chain: neither more nor less than without."""
    cache = _full_cache(corpus)

    def warm(one: Mutation) -> Document:
        now = None if one.own_time else one.subject.now
        return verify(one.document, roots=one.subject.roots, now=now, expect=ANY, cache=cache)

    first, second = judge(mutation, corpus, warm), judge(mutation, corpus, cold)
    if not first.fault and (first.outcome, first.reason) != (second.outcome, second.reason):
        fault = f"with a cache the answer is {first.outcome}, and without it {second.outcome}"
        return Verdict(first.outcome, first.cpu, fault)
    return first


@cache
def _full_cache(corpus: Corpus) -> CertificateCache:
    """Return a cache that has seen every subject, and sees the mutations of this process."""
    certificates = CertificateCache()
    for subject in corpus.subjects:
        if subject.content is not None:
            verify(subject.document, roots=subject.roots, now=subject.now, expect=ANY, cache=certificates)
    return certificates


def judge(mutation: Mutation, corpus: Corpus, verify_one: Verify) -> Verdict:
    """Verify a mutation and hold the answer against what is allowed."""
    verdict = _answered(mutation, corpus, verify_one)
    tries = 0
    while verdict.cpu > MAX_CPU and not verdict.fault and tries < 3:  # a busy machine is no fault of ours
        again = _answered(mutation, corpus, verify_one)
        verdict = min(verdict, again, key=lambda one: one.cpu)
        tries += 1
    if verdict.cpu > MAX_CPU and not verdict.fault:
        fault = f"cost {verdict.cpu * 1000:.1f} ms of CPU, {MAX_CPU * 1000:.0f} ms are allowed"
        return Verdict(verdict.outcome, verdict.cpu, fault, verdict.reason)
    return verdict


def past_cbor(outcome: str) -> bool:
    """Whether a document with this outcome was decoded completely."""
    return outcome not in STEPS or STEPS.index(outcome) > STEPS.index("payload")


def _answered(mutation: Mutation, corpus: Corpus, verify_one: Verify) -> Verdict:
    begun = time.thread_time()
    try:
        content = verify_one(mutation)
    except VerificationError as error:
        return Verdict(error.name, time.thread_time() - begun, reason=error.reason)
    except BaseException as error:  # noqa: BLE001 -- anything else is what we look for
        cpu = time.thread_time() - begun
        return Verdict("crash", cpu, f"crashed with {type(error).__name__}: {error}")
    cpu = time.thread_time() - begun
    if mutation.resigned:
        outcome, fault = PERMITTED, _permitted(mutation, content)
    else:
        outcome, fault = EQUIVALENT, _equivalent(mutation, corpus, content)
    return Verdict(outcome, cpu, fault)


def _equivalent(mutation: Mutation, corpus: Corpus, content: Document) -> str:
    original = _named_forms(corpus).get(mutation.document)
    if original is None:
        return "accepted, and it is no named form of any genuine document"
    return "" if original == content else "accepted as other content than the genuine document's"


def _permitted(mutation: Mutation, content: Document) -> str:
    now = None if mutation.own_time else mutation.subject.now
    root = mutation.subject.roots[0].public_bytes(Encoding.DER)
    try:
        found = list(breaches(mutation.document, content, root, now))
    except Exception as error:  # noqa: BLE001 -- a reader that cannot read it does not permit it
        return f"accepted, and a second reading fails with {type(error).__name__}: {error}"
    return f"accepted, although {found[0]}" if found else ""


@cache
def _named_forms(corpus: Corpus) -> dict[bytes, Document]:
    """Return every form of every subject that verifies, with what it says."""
    return {
        form: subject.content
        for subject in corpus.subjects
        if subject.content is not None
        for form in equivalents(subject.document)
    }
